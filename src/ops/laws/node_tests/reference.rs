//! The reference implementation of the onnx package, which runs what the runtime that is built in lacks.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bytes::Bytes;
use prost::Message;
use serde::Deserialize;

use crate::model::{Model, TensorRef, save};
use crate::proto::TensorProto;
use crate::run::Tensors;

/// A Python process that runs one model after the other.
pub struct Reference {
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

/// One answer of the script.
#[derive(Deserialize)]
enum Answer {
    #[serde(rename = "outputs")]
    Outputs(usize),
    #[serde(rename = "error")]
    Error(String),
}

impl Reference {
    /// `None`, with a visible note, where Python or the package is missing.
    pub fn start() -> Option<Self> {
        let there = Command::new("python3")
            .args(["-c", "import onnx.reference"])
            .stderr(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            eprintln!("SKIP: what tract can not run; python3 with the onnx package would");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference_runtime.py");
        let mut child = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let pipes = RefCell::new((child.stdin.take()?, BufReader::new(child.stdout.take()?)));
        Some(Reference { child, pipes })
    }

    /// The outputs of a model.
    pub fn run(&self, model: &Model, feeds: &Tensors) -> Result<Vec<TensorRef>, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        save(model, &folder.path().join("model.onnx")).map_err(|error| error.to_string())?;
        for (at, (name, tensor)) in feeds.iter().enumerate() {
            let path = folder.path().join(format!("input_{at}.pb"));
            std::fs::write(path, tensor.to_proto(name).encode_to_vec())
                .map_err(|error| error.to_string())?;
        }
        let count = self
            .ask(folder.path())
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("the reference: {error}"))?;
        let read = |at: usize| {
            let bytes = std::fs::read(folder.path().join(format!("output_{at}.pb")))
                .map_err(|error| error.to_string())?;
            let message =
                TensorProto::decode(Bytes::from(bytes)).map_err(|error| error.to_string())?;
            TensorRef::from_proto(&message).map_err(|error| error.to_string())
        };
        (0..count).map(read).collect()
    }

    fn ask(&self, folder: &Path) -> std::io::Result<Result<usize, String>> {
        let (question, answers) = &mut *self.pipes.borrow_mut();
        writeln!(question, "{}", folder.display())?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        Ok(match serde_json::from_str(&line)? {
            Answer::Outputs(count) => Ok(count),
            Answer::Error(problem) => Err(problem),
        })
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
