//! ONNX Runtime on small graphs. Where no library is at hand, the tests say so and end.

use super::{LibraryError, OrtRuntime, libraries};
use crate::model::{TensorRef, text};
use crate::proto::Dtype;
use crate::run::{Chosen, Engines, Fallback, Runtime, Tensors, TractRuntime, choose};

/// Libraries where a test may look for them: those that a variable names, and those of Python's packages.
fn found() -> Result<Vec<std::path::PathBuf>, LibraryError> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return Ok(vec![path.into()]);
    }
    let asked = std::process::Command::new("python3")
        .args(["-c", "import sys; print('\\n'.join(sys.path))"])
        .output();
    let folders = asked
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let found = folders
        .lines()
        .flat_map(|folder| libraries(&std::path::Path::new(folder).join("onnxruntime/capi")))
        .collect();
    Ok(found)
}

fn runtime() -> Option<OrtRuntime> {
    match OrtRuntime::load(&found().unwrap_or_default()) {
        Ok(runtime) => Some(runtime),
        Err(missing) => {
            eprintln!("SKIPPED, for ONNX Runtime is not at hand: {missing}");
            None
        }
    }
}

fn floats(dims: &[usize]) -> TensorRef {
    let elements: Vec<f32> = (0..dims.iter().product())
        .map(|at: usize| (at as f32 * 0.7 + 0.3).sin())
        .collect();
    TensorRef::from_f32(dims.to_vec(), &elements)
}

fn feeds(inputs: &[(&str, TensorRef)]) -> Tensors {
    inputs
        .iter()
        .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()))
        .collect()
}

const DENSE: &str = "input x f32[2,3]\nconst w f32[3,4]\nh = MatMul(x, w)\nr = Relu(h)\nlast = ArgMax(r) {axis=1}\noutput r\noutput last";

#[test]
fn both_runtimes_give_the_same_and_taps_come_behind_the_outputs() {
    let Some(runtime) = runtime() else { return };
    let (model, inputs) = (
        text::model(DENSE).unwrap(),
        feeds(&[("x", floats(&[2, 3]))]),
    );
    let taps = ["h".to_owned(), "x".to_owned(), "r".to_owned()];
    let ours = runtime
        .prepare(&model, &inputs, &taps)
        .unwrap()
        .run(&inputs)
        .unwrap();
    let theirs = TractRuntime::new(true)
        .prepare(&model, &inputs, &taps)
        .unwrap()
        .run(&inputs)
        .unwrap();
    assert_eq!(
        (ours.len(), ours[1].dtype, &ours[3]),
        (5, Dtype::Int64, &inputs["x"])
    );
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.dims, theirs.dims);
        let apart = ours
            .to_f64()
            .unwrap()
            .iter()
            .zip(theirs.to_f64().unwrap())
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(apart < 1e-6, "{apart}");
    }
    let session = runtime.prepare_variant(&model, &inputs).unwrap();
    assert!(session.time(&inputs).unwrap() > 0.0);
    assert!(
        session
            .run(&Tensors::new())
            .is_err_and(|error| error.to_string().contains("'x' is missing"))
    );
}

#[test]
fn every_type_comes_back_as_it_went_in() {
    let Some(runtime) = runtime() else { return };
    let types = [
        ("f64", Dtype::Double),
        ("bool", Dtype::Bool),
        ("i8", Dtype::Int8),
        ("i32", Dtype::Int32),
        ("i64", Dtype::Int64),
        ("u8", Dtype::Uint8),
    ];
    for (name, dtype) in types {
        let model =
            text::model(&format!("input x {name}[2,3]\ny = Identity(x)\noutput y")).unwrap();
        let bytes: Vec<u8> = (0..dtype.bytes_for(6)).map(|at| (at % 2) as u8).collect();
        let tensor = TensorRef {
            dtype,
            dims: vec![2, 3],
            bytes: bytes.into(),
        };
        let inputs = feeds(&[("x", tensor.clone())]);
        assert_eq!(
            runtime
                .prepare(&model, &inputs, &[])
                .unwrap()
                .run(&inputs)
                .unwrap(),
            [tensor],
            "{name}"
        );
    }
    let half: Vec<u8> = [1.5f32, -2.0]
        .iter()
        .flat_map(|number| half::f16::from_f32(*number).to_le_bytes())
        .collect();
    let tensor = TensorRef {
        dtype: Dtype::Float16,
        dims: vec![2],
        bytes: half.into(),
    };
    let model = text::model("input x f16[2]\ny = Identity(x)\noutput y").unwrap();
    let inputs = feeds(&[("x", tensor)]);
    let found = runtime
        .prepare(&model, &inputs, &[])
        .unwrap()
        .run(&inputs)
        .unwrap();
    assert_eq!(found, [TensorRef::from_f32(vec![2], &[1.5, -2.0])]);
}

#[test]
fn a_sequence_is_its_tensors_one_after_the_other() {
    let Some(runtime) = runtime() else { return };
    let model = text::model("input x f32[2,3]\ns = SplitToSequence(x) {axis=1}\noutput s").unwrap();
    let inputs = feeds(&[(
        "x",
        TensorRef::from_f32(vec![2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    )]);
    let Ok(session) = runtime.prepare(&model, &inputs, &[]) else {
        return;
    };
    assert_eq!(
        session.run(&inputs).unwrap(),
        [TensorRef::from_f32(
            vec![6],
            &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
        )]
    );
}

#[test]
fn runs_in_parallel_are_runs_one_by_one() {
    let Some(runtime) = runtime() else { return };
    let model = text::model(DENSE).unwrap();
    let inputs: Vec<Tensors> = (0..16)
        .map(|at| feeds(&[("x", TensorRef::from_f32(vec![2, 3], &[at as f32; 6]))]))
        .collect();
    let session = runtime.prepare(&model, &inputs[0], &[]).unwrap();
    let together = crate::run::run_all(&*session, &inputs);
    for (inputs, found) in inputs.iter().zip(together) {
        assert_eq!(session.run(inputs).unwrap(), found.unwrap());
    }
}

#[test]
fn a_loop_without_an_end_is_refused() {
    let Some(runtime) = runtime() else { return };
    let body = "graph body\ninput i i64[]\ninput on bool[]\ninput s f32[2]\nt = Tanh(s)\nmore = Identity(on)\noutput more\noutput t\nend\n";
    let text = format!(
        "input x f32[2]\nconst many i64[] = 1099511627776\n{body}y = Loop(many, _, x) {{body=@body}}\noutput y"
    );
    let refused = runtime.prepare(
        &text::model(&text).unwrap(),
        &feeds(&[("x", floats(&[2]))]),
        &[],
    );
    assert!(
        refused.is_err_and(|why| why.reason.contains("operations") || why.reason.contains("turns"))
    );
}

#[test]
fn an_operand_that_is_not_there_is_refused() {
    let Some(runtime) = runtime() else { return };
    for node in [
        "Sum(x, _)",
        "Max(x, _)",
        "Einsum(x, _) {equation=\"ij,jk->ik\"}",
    ] {
        let text = format!("input x f32[3,3]\ny = {node}\noutput y");
        let model = text::model(&text).unwrap();
        let refused = runtime.prepare(&model, &feeds(&[("x", floats(&[3, 3]))]), &[]);
        let reason = refused.err().map(|refused| refused.reason);
        assert!(
            reason.is_some_and(|reason| reason.contains("lacks an operand")),
            "{node}"
        );
    }
}

/// An operator that tract lacks.
const LACKED: &str = "input x f32[1,2,6,6]\nconst w f32[3,2,3,3]\nh = Conv(x, w)\ny = LpPool(h) {kernel_shape=[2,2], p=2}\noutput y";

#[test]
fn the_engine_is_chosen_for_each_original() {
    let engines = Engines::new(TractRuntime::new(true), Box::new(found));
    let (usual, lacked) = (text::model(DENSE).unwrap(), text::model(LACKED).unwrap());
    let chosen = choose(&engines, &usual, &feeds(&[("x", floats(&[2, 3]))]));
    assert_eq!(chosen.runtime.name(), "tract");
    let Chosen { runtime, session } =
        choose(&engines, &lacked, &feeds(&[("x", floats(&[1, 2, 6, 6]))]));
    match engines.fallback() {
        Fallback::Runtime(_) => assert!(session.is_ok() && runtime.name() == "ONNX Runtime"),
        _ => eprintln!("SKIPPED, for ONNX Runtime is not at hand"),
    }
}

#[test]
fn what_is_not_at_hand_is_named() {
    let nothing = || {
        Err(LibraryError::NotAtHand(
            "ONNX Runtime would be used if it were found".to_owned(),
        ))
    };
    let engines = Engines::new(TractRuntime::new(true), Box::new(nothing));
    let chosen = choose(
        &engines,
        &text::model(LACKED).unwrap(),
        &feeds(&[("x", floats(&[1, 2, 6, 6]))]),
    );
    let reason = chosen
        .session
        .err()
        .map(|refused| refused.reason)
        .unwrap_or_default();
    assert!(
        reason.contains("LpPool") || reason.contains("lacks this operator"),
        "{reason}"
    );
    assert!(
        reason.ends_with("(ONNX Runtime would be used if it were found)"),
        "{reason}"
    );
}
