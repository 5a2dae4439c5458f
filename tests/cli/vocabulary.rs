//! Tokens that stay, and the files that go with a smaller vocabulary.

use std::path::Path;

use onnx_prune::inputs::write_npz;
use onnx_prune::model::{TensorRef, save, text};
use serde_json::{Value, json};

use super::{code, json, run};

/// Words of the tokenizer, by id.
const WORDS: [&str; 16] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "##a", "##b", "##c", "aa", "bb", "cc", "ab",
    "bc", "ca",
];

/// A small language model with a tied projection, its tokenizer, and sentences of a few of its words.
fn language_model(folder: &Path) {
    let net = "input input_ids i64[n,s]\nconst table f32[16,8]\nconst one f32[8,32]\nconst two f32[32,8]\n\
        e = Gather(table, input_ids)\na = MatMul(e, one)\nr = Relu(a)\nc = MatMul(r, two)\nh = Add(e, c)\n\
        turned = Transpose(table) {perm=[1,0]}\nlogits = MatMul(h, turned)\noutput logits";
    save(&text::model(net).unwrap(), &folder.join("m.onnx")).unwrap();
    let vocab: serde_json::Map<String, Value> = WORDS
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), json!(id)))
        .collect();
    let special = |id: usize| json!({"id": id, "content": WORDS[id], "special": true});
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [special(0), special(1), special(2), special(3)],
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": vocab}
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let ids: Vec<i64> = (0..8)
        .flat_map(|row| [2, 4 + row % 3, 10, 8, 3, 0])
        .collect();
    let sentences = [(
        "input_ids".to_owned(),
        TensorRef::from_i64(vec![8, 6], &ids),
    )];
    write_npz(&folder.join("d.npz"), &sentences.into_iter().collect()).unwrap();
}

#[test]
fn listed_tokens_stay_with_what_the_tokenizer_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    language_model(path);
    std::fs::write(path.join("words.txt"), "b\naa\n##b\na\nc\n").unwrap();
    let before = std::fs::read(path.join("tokenizer.json")).unwrap();
    let line = "{}/m.onnx -o {}/out.onnx --data {}/d.npz --keep-tokens {}/words.txt --plan-out {}/p.json \
        --report {}/r.json --report {}/r.md --report {}/r.html";
    let (exit, said) = code(path, line);
    assert_eq!(exit, 0, "{said}");
    let map = json(&path.join("out.tokens.json"));
    let ids = json!({"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6, "8": 7, "10": 8});
    assert_eq!(map["ids"], ids);
    assert_eq!(
        (&map["inputs"], &map["outputs"]),
        (&json!(["input_ids"]), &json!(["logits"]))
    );
    assert_eq!(std::fs::read(path.join("tokenizer.json")).unwrap(), before);
    let cut = json(&path.join("out.tokenizer.json"));
    assert_eq!(
        (&cut["model"]["vocab"]["aa"], &cut["model"]["vocab"]["bb"]),
        (&json!(8), &Value::Null)
    );
    let report = json(&path.join("r.json"));
    let row = &report["vocabulary"];
    assert_eq!(
        (&row["rows"], &row["kept"], &row["params_saved"]),
        (&json!(16), &json!(9), &json!(56))
    );
    assert_eq!(report["exactness"]["verdict"], "exact");
    assert_eq!(report["groups"][0]["kind"], "vocabulary");
    for form in ["r.md", "r.html"] {
        let text = std::fs::read_to_string(path.join(form)).unwrap();
        assert!(text.contains("9 of 16 tokens stay"), "{form}");
    }
    // Beside another folder's model the tokenizer has its own name.
    std::fs::create_dir(path.join("there")).unwrap();
    let (exit, said) = code(path, "{}/m.onnx -o {}/there/out.onnx --plan {}/p.json");
    assert_eq!(exit, 0, "{said}");
    for (one, other) in [
        ("out.onnx", "out.onnx"),
        ("out.tokens.json", "out.tokens.json"),
        ("out.tokenizer.json", "tokenizer.json"),
    ] {
        let [one, other] = [path.join(one), path.join("there").join(other)]
            .map(|path| std::fs::read(path).unwrap());
        assert_eq!(one, other);
    }
    let (exit, said) = code(
        path,
        "verify {}/m.onnx {}/out.onnx --plan {}/p.json --data {}/d.npz --max-drift 0.0001",
    );
    assert_eq!(exit, 0, "{said}");
    let (exit, said) = code(
        path,
        "verify {}/m.onnx {}/out.onnx --plan {}/p.json --max-drift 0.0001",
    );
    assert_eq!(exit, 0, "made-up ids are of tokens that stay: {said}");
}

#[test]
fn tokens_are_counted_in_the_inputs_and_other_units_go_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    language_model(path);
    std::fs::remove_file(path.join("tokenizer.json")).unwrap();
    let line = "{}/m.onnx -o {}/out.onnx --data {}/d.npz --keep-tokens auto --target params=0.5 --align 1 --force --report {}/r.json";
    let output = run(path, line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no tokenizer.json"), "{said}");
    let map = json(&path.join("out.tokens.json"));
    let kept: Vec<&String> = map["ids"].as_object().unwrap().keys().collect();
    assert_eq!(kept, ["0", "2", "3", "4", "5", "6", "8", "10"]);
    assert!(!path.join("out.tokenizer.json").exists());
    let report = json(&path.join("r.json"));
    let kinds: Vec<&Value> = report["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["kind"])
        .collect();
    assert!(
        kinds[0] == "vocabulary" && kinds[1..].contains(&&json!("channels")),
        "{kinds:?}"
    );
    let params = |row: &str| report[row]["params"].as_f64().unwrap();
    assert_eq!(params("original"), 640.0);
    assert!(params("pruned") <= 320.0);
    assert_eq!(report["exactness"]["verdict"], "exact");
}

#[test]
fn what_cannot_be_kept_or_written_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    language_model(path);
    std::fs::write(path.join("few.txt"), "4\n5\n").unwrap();
    std::fs::write(path.join("odd.txt"), "a\nzebra\n").unwrap();
    std::fs::write(path.join("far.txt"), "16\n").unwrap();
    for (line, words) in [
        (
            "{}/m.onnx -o {}/o.onnx --keep-tokens {}/few.txt --data {}/d.npz",
            "3 ids of tokens that are not kept: 6, 8, 10",
        ),
        ("{}/m.onnx -o {}/o.onnx --keep-tokens {}/odd.txt", "'zebra'"),
        ("{}/m.onnx -o {}/o.onnx --keep-tokens {}/far.txt", "id 16"),
        ("{}/m.onnx -o {}/o.onnx --keep-tokens auto", "--data"),
        (
            "{}/m.onnx -o {}/o.onnx --keep-tokens {}/none.txt",
            "none.txt",
        ),
        (
            "{}/m.onnx -o {}/few.onnx --keep-tokens {}/few.txt --plan {}/p.json",
            "--plan",
        ),
        (
            "@digits_cnn.onnx -o {}/o.onnx --keep-tokens {}/few.txt",
            "no input of the model holds ids",
        ),
    ] {
        let (exit, said) = code(path, line);
        assert!(exit == 2 && said.contains(words), "{line}: {exit} {said}");
    }
    std::fs::rename(path.join("few.txt"), path.join("o.tokens.json")).unwrap();
    let (exit, said) = code(
        path,
        "{}/m.onnx -o {}/o.onnx --keep-tokens {}/o.tokens.json",
    );
    assert!(exit == 2 && said.contains("the list of tokens"), "{said}");
    let left: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(!left.contains(&"o.onnx".into()), "{left:?}");
}
