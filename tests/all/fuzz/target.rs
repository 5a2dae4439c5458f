//! What is done with each mutated model, and what the worker leaves behind for the one who watches it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use onnx_prune::cli;
use onnx_prune::proto::ModelProto;
use onnx_prune::rng::rng;
use prost::Message;
use rand::Rng;

use super::graphs::graphs;
use super::mutate::{bytes, mutated};

/// Models by number, from the next one to the one behind the last.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub next: u64,
    pub end: u64,
}

/// Where a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub model: u64,
    pub step: u64,
    pub executions: u64,
}

/// The commands, in order.
const STEPS: [&str; 6] = ["inspect", "clean", "cut", "prune", "plan", "data"];

impl Progress {
    pub fn step(&self) -> &'static str {
        STEPS.get(self.step as usize).copied().unwrap_or("made")
    }

    pub fn read(folder: &Path) -> Self {
        let mut words = [0u8; 24];
        match File::open(folder.join("progress")).and_then(|mut file| file.read_exact(&mut words)) {
            Ok(()) => {
                let word = |at: usize| u64::from_le_bytes(words[at * 8..][..8].try_into().unwrap());
                Progress {
                    model: word(0),
                    step: word(1),
                    executions: word(2),
                }
            }
            Err(_) => Progress::default(),
        }
    }

    fn write(&self, file: &mut File) {
        let words: Vec<u8> = [self.model, self.step, self.executions]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&words).unwrap();
    }
}

/// Prepares a folder for a worker.
pub fn reset(folder: &Path, range: &Range) {
    std::fs::write(
        folder.join("range"),
        format!("{} {}", range.next, range.end),
    )
    .unwrap();
    let mut file = File::create(folder.join("progress")).unwrap();
    Progress {
        model: range.next,
        ..Default::default()
    }
    .write(&mut file);
}

/// Panics and wrong exit codes that workers noted down.
pub fn complaints(folder: &Path) -> Vec<String> {
    std::fs::read_to_string(folder.join("complaints"))
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The worker: goes through its range.
pub fn work(folder: &str) {
    let folder = Path::new(folder);
    let range = std::fs::read_to_string(folder.join("range")).unwrap();
    let (next, end) = range.split_once(' ').unwrap();
    let (next, end): (u64, u64) = (next.parse().unwrap(), end.parse().unwrap());
    let bases = bases();
    let operators = operators();
    let mut worker = Worker {
        folder: folder.to_owned(),
        file: OpenOptions::new()
            .write(true)
            .open(folder.join("progress"))
            .unwrap(),
        progress: Progress::default(),
    };
    for number in next..end {
        let mut random = rng(number, "fuzz");
        let base = &bases[random.random_range(0..bases.len())];
        let bytes = mutated(base, &operators, &mut random);
        worker.progress.model = number;
        worker.model(&bytes, &mut random);
    }
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The graphs of this folder, and the smallest fixture.
fn bases() -> Vec<ModelProto> {
    let mut bases = graphs();
    let fixture = std::fs::read(fixtures().join("digits_lstm.onnx")).unwrap();
    bases.push(ModelProto::decode(fixture.as_slice()).unwrap());
    bases
}

/// Names of all operators that ONNX and ONNX Runtime define.
fn operators() -> Vec<String> {
    let list =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operators.txt"))
            .unwrap();
    list.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(' ').nth(1))
        .map(str::to_owned)
        .collect()
}

struct Worker {
    folder: std::path::PathBuf,
    file: File,
    progress: Progress,
}

impl Worker {
    fn model(&mut self, model: &[u8], random: &mut impl Rng) {
        let at = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        let (path, out, plan) = (at("model.onnx"), at("out.onnx"), at("plan.json"));
        std::fs::write(&path, model).unwrap();
        let seed = self.progress.model.to_string();
        let share = format!("params={}", [0.5, 0.7, 0.9][random.random_range(0..3)]);
        self.run(0, &["inspect", &path, "--json"]);
        self.run(1, &["clean", &path, "-o", &out]);
        let cut = [
            "--score",
            "random",
            "--seed",
            &seed,
            "--target",
            &share,
            "--force",
            "--allow-unverified",
            "--plan-out",
            &plan,
        ];
        let _ = std::fs::remove_file(&plan);
        self.run(2, &[&[&path, "-o", &out, "--no-verify"], &cut[..]].concat());
        if random.random_ratio(1, 8) {
            self.run(3, &[&[&path, "-o", &out], &cut[..]].concat());
        }
        if let Ok(mut text) = std::fs::read(&plan) {
            bytes(&mut text, random);
            std::fs::write(&plan, text).unwrap();
            self.run(
                4,
                &[&path, "-o", &out, "--no-verify", "--plan", &plan, "--force"],
            );
        }
        if random.random_ratio(1, 16) {
            self.data(random);
        }
    }

    /// Inputs in a file that was changed, for a model that is whole.
    fn data(&mut self, random: &mut impl Rng) {
        let mut inputs = std::fs::read(fixtures().join("digits_calibration.npz")).unwrap();
        for _ in 0..random.random_range(1..=3) {
            bytes(&mut inputs, random);
        }
        let path = self.folder.join("data.npz");
        std::fs::write(&path, inputs).unwrap();
        let model = fixtures().join("digits_lstm.onnx");
        let arguments = [
            "calibrate",
            &model.to_string_lossy(),
            "--data",
            &path.to_string_lossy(),
            "--samples",
            "2",
            "-o",
        ]
        .map(str::to_owned);
        let out = self
            .folder
            .join("statistics.bin")
            .to_string_lossy()
            .into_owned();
        let arguments: Vec<&str> = arguments
            .iter()
            .map(String::as_str)
            .chain([out.as_str()])
            .collect();
        self.run(5, &arguments);
    }

    /// One command: it ends with one of the exit codes of the contract.
    fn run(&mut self, step: u64, arguments: &[&str]) {
        self.progress.step = step;
        self.progress.write(&mut self.file);
        let words = ["onnx-prune"]
            .iter()
            .chain(arguments)
            .chain(&["-q", "--threads", "1"])
            .map(std::ffi::OsString::from);
        let problem = match catch_unwind(AssertUnwindSafe(|| cli::run(words))) {
            Ok(0..=3) => None,
            Ok(code) => Some(format!("exit code {code}")),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                Some(format!(
                    "panic: {}",
                    text.unwrap_or("no message").replace('\n', " ")
                ))
            }
        };
        self.progress.executions += 1;
        self.progress.write(&mut self.file);
        if let Some(problem) = problem {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.folder.join("complaints"))
                .unwrap();
            writeln!(
                file,
                "model {} ({}): {problem}",
                self.progress.model,
                self.progress.step()
            )
            .unwrap();
        }
    }
}
