use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Tokenizer;

fn tokenizer(json: &Value) -> Tokenizer {
    Tokenizer::parse(&json.to_string()).unwrap()
}

/// The tokens that stay of these, and the tokenizer cut to them.
fn cut(json: &Value, asked: &[i64], rows: usize) -> (Vec<u32>, Value) {
    let tokenizer = tokenizer(json);
    let asked: BTreeSet<i64> = asked.iter().copied().collect();
    let kept = Tokenizer::closed(Some(&tokenizer), &asked, rows).unwrap();
    let text = tokenizer.cut(&kept).unwrap();
    (kept, serde_json::from_str(&text).unwrap())
}

#[test]
fn word_pieces_keep_special_tokens_and_the_order_of_everything() {
    let original = json!({
        "version": "1.0",
        "truncation": {"max_length": 128},
        "padding": {"strategy": "BatchLongest", "pad_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [
            {"id": 0, "content": "[PAD]", "special": true},
            {"id": 4, "content": "[CLS]", "special": true},
            {"id": 5, "content": "[SEP]", "special": true},
            {"id": 8, "content": "[MASK]", "special": true}],
        "normalizer": {"type": "BertNormalizer", "lowercase": true},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [4], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [5], "tokens": ["[SEP]"]}}},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "vocab": {"the": 6, "[PAD]": 0, "dog": 1, "##s": 2, "[UNK]": 3, "[CLS]": 4, "[SEP]": 5, "cat": 7, "[MASK]": 8}}
    });
    let (kept, found) = cut(&original, &[2, 7], 9);
    assert_eq!(kept, [0, 2, 3, 4, 5, 7, 8]);
    let vocab = &found["model"]["vocab"];
    assert_eq!(
        *vocab,
        json!({"[PAD]": 0, "##s": 1, "[UNK]": 2, "[CLS]": 3, "[SEP]": 4, "cat": 5, "[MASK]": 6})
    );
    let order: Vec<&String> = vocab.as_object().unwrap().keys().collect();
    assert_eq!(
        order,
        ["[PAD]", "##s", "[UNK]", "[CLS]", "[SEP]", "cat", "[MASK]"]
    );
    let added: Vec<i64> = found["added_tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["id"].as_i64().unwrap())
        .collect();
    assert_eq!(added, [0, 3, 4, 6]);
    let around = &found["post_processor"]["special_tokens"];
    assert_eq!(
        (&around["[CLS]"]["ids"], &around["[SEP]"]["ids"]),
        (&json!([3]), &json!([4]))
    );
    assert_eq!(found["padding"], original["padding"]);
    for part in ["version", "truncation", "normalizer"] {
        assert_eq!(found[part], original[part]);
    }
    let keys = |json: &Value| {
        json.as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&found), keys(&original));
}

/// Letters a, b, c; ab, abc, bc; the merge of a and bc gives abc too.
fn pairs(merges: Value) -> Value {
    json!({
        "added_tokens": [{"id": 6, "content": "<s>"}],
        "post_processor": {"type": "Sequence", "processors": [
            {"type": "RobertaProcessing", "sep": ["<s>", 6], "cls": ["<s>", 6]}]},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "ca": 5, "<s>": 6, "Ġ": 7, "x": 8},
            "merges": merges}
    })
}

#[test]
fn tokens_are_kept_with_all_that_they_are_merged_from() {
    for merges in [
        json!(["a b", "ab c", "c a"]),
        json!([["a", "b"], ["ab", "c"], ["c", "a"]]),
    ] {
        let (kept, found) = cut(&pairs(merges.clone()), &[4], 9);
        // Letters stand for bytes here, so they all stay; of merged tokens, those that make "abc".
        assert_eq!(kept, [0, 1, 2, 3, 4, 6, 7, 8]);
        let left: Vec<&Value> = merges.as_array().unwrap().iter().take(2).collect();
        assert_eq!(found["model"]["merges"], json!(left));
        assert_eq!(found["model"]["vocab"]["x"], 7);
        let post = &found["post_processor"]["processors"][0];
        assert_eq!(
            (&post["sep"], &post["cls"]),
            (&json!(["<s>", 5]), &json!(["<s>", 5]))
        );
    }
}

#[test]
fn continued_parts_are_merged_without_their_prefix() {
    let original = json!({
        "model": {"type": "BPE", "continuing_subword_prefix": "##", "unk_token": "?",
            "vocab": {"a": 0, "##b": 1, "ab": 2, "##c": 3, "##bc": 4, "?": 5},
            "merges": ["a ##b", "##b ##c"]}
    });
    let (kept, found) = cut(&original, &[2], 6);
    assert_eq!(kept, [0, 1, 2, 5]);
    assert_eq!(found["model"]["merges"], json!(["a ##b"]));
}

#[test]
fn a_list_with_scores_is_counted_anew_by_its_places() {
    let original = json!({
        "added_tokens": [{"id": 0, "content": "<pad>"}],
        "model": {"type": "Unigram", "unk_id": 2, "byte_fallback": true,
            "vocab": [["<pad>", 0.0], ["▁a", -1.5], ["<unk>", 0.0], ["<0x41>", -20.0], ["b", -2.25], ["▁ab", -3.125]]}
    });
    let (kept, found) = cut(&original, &[5], 8);
    assert_eq!(kept, [0, 2, 3, 5]);
    assert_eq!(
        found["model"]["vocab"],
        json!([
            ["<pad>", 0.0],
            ["<unk>", 0.0],
            ["<0x41>", -20.0],
            ["▁ab", -3.125]
        ])
    );
    assert_eq!(found["model"]["unk_id"], 1);
}

#[test]
fn words_alone_are_cut_too() {
    let original = json!({"model": {"type": "WordLevel", "unk_token": "?", "vocab": {"a": 0, "b": 1, "?": 2}}});
    let (kept, found) = cut(&original, &[1], 3);
    assert_eq!(
        (kept, &found["model"]["vocab"]),
        (vec![1, 2], &json!({"b": 0, "?": 1}))
    );
}

#[test]
fn an_added_token_that_the_table_does_not_have_is_refused() {
    let original = json!({
        "added_tokens": [{"id": 3, "content": "<extra>"}],
        "model": {"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0}}
    });
    let refused = Tokenizer::closed(Some(&tokenizer(&original)), &BTreeSet::new(), 3);
    assert!(refused.unwrap_err().to_string().contains("'<extra>'"));
    assert!(Tokenizer::parse("{\"model\": {}}").is_err());
}

#[test]
fn letters_stand_for_all_bytes() {
    let letters: BTreeSet<String> = super::byte_letters().collect();
    assert_eq!(letters.len(), 256);
    assert!(
        ["Ġ", "Ċ", "!", "ÿ", "Ń"]
            .iter()
            .all(|letter| letters.contains(*letter))
    );
    assert!(!letters.contains(" "));
}
