//! Runs that are stopped, killed or disturbed: there is always the model of before or the new one, whole.
#![cfg(unix)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onnx_prune::model::{Limits, Model, load, save};

use super::files::{contents, external, names, wide};
use super::{fixture, program};

fn spawn(arguments: &str) -> Child {
    let mut command = program();
    command
        .args(arguments.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn send(child: &Child, signal: &str) {
    assert!(
        Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn signals_stop_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let long = format!(
        "{} --data {} --units channels,heads -o {}/x.onnx --plan-out {}/p.json --rounds 40",
        fixture("digits_transformer.onnx").display(),
        fixture("digits_calibration.npz").display(),
        path.display(),
        path.display()
    );
    for (signal, wanted, wait) in [("INT", 130, 300), ("TERM", 143, 900), ("INT", 130, 10)] {
        let child = spawn(&long);
        std::thread::sleep(Duration::from_millis(wait));
        send(&child, signal);
        let start = Instant::now();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // So early that nobody listens yet, a signal does what it does by default.
        let early = wait == 10 && output.status.code().is_none();
        assert!(
            early || output.status.code() == Some(wanted),
            "{signal}: {:?} {said}",
            output.status
        );
        assert!(
            early
                || said
                    .trim()
                    .lines()
                    .last()
                    .unwrap()
                    .starts_with("error: interrupted by SIG"),
            "{said}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(names(path), Vec::<String>::new());
    }
}

/// Ends at random points; afterwards there is the old model or the new one, whole, and the next run tidies up.
fn killed(single: bool, times: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model = if single {
        save(
            &Model::new(wide(400), Default::default()).unwrap(),
            &path.join("m.onnx"),
        )
        .unwrap();
        path.join("m.onnx")
    } else {
        external(path, "m.onnx", 400)
    };
    let inputs: Vec<(PathBuf, Vec<u8>)> = contents(path).into_iter().collect();
    let target = path.join("x.onnx");
    let run = |macs: f64| {
        format!(
            "{} -o {} --target macs={macs} --no-verify --score l2 -q",
            model.display(),
            target.display()
        )
    };
    let start = Instant::now();
    assert!(spawn(&run(0.5)).wait().unwrap().success());
    let whole = start.elapsed().as_micros() as u64;
    for time in 0..times {
        let mut child = spawn(&run(0.4 + 0.05 * (time % 5) as f64));
        // Most of them towards the end, where files are written.
        let part = (time * 7919 % 1000) as f64 / 1000.0;
        std::thread::sleep(Duration::from_micros(
            (whole as f64 * (0.4 + 0.7 * part)) as u64,
        ));
        match time % 4 {
            3 => send(&child, "TERM"),
            _ => child.kill().unwrap(),
        }
        child.wait().unwrap();
        let found = load(&target, Limits::default());
        assert!(
            found.is_ok(),
            "time {time}: {} {:?}",
            found.unwrap_err(),
            names(path)
        );
        assert!(
            inputs
                .iter()
                .all(|(file, bytes)| std::fs::read(file).unwrap() == *bytes),
            "time {time}"
        );
    }
    assert!(spawn(&run(0.5)).wait().unwrap().success());
    let left: Vec<String> = names(path)
        .into_iter()
        .filter(|name| !inputs.iter().any(|(file, _)| file.ends_with(name)))
        .collect();
    assert_eq!(left.len(), if single { 1 } else { 2 }, "{left:?}");
}

#[test]
fn kills_leave_whole_models() {
    killed(true, 12);
}

#[test]
fn kills_leave_pairs_that_load() {
    killed(false, 24);
}

/// What a run that lives is writing is no leftover, and two that write the same model leave one of them whole.
#[test]
fn two_runs_into_one_folder_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model = external(path, "m.onnx", 200);
    std::fs::write(
        path.join(".onnx-prune-dead00.tmp"),
        "left by a run that was killed",
    )
    .unwrap();
    let lives = std::fs::File::create(path.join(".onnx-prune-lives0.tmp")).unwrap();
    lives.lock().unwrap();
    for round in 0..3 {
        let run = |macs: f64| {
            spawn(&format!(
                "{} -o {}/x.onnx --target macs={macs} --no-verify --score l2 -q",
                model.display(),
                path.display()
            ))
        };
        let mut both: Vec<Child> = [0.4, 0.6, 0.8, 0.5].iter().map(|macs| run(*macs)).collect();
        both.iter_mut()
            .for_each(|child| assert!(child.wait().unwrap().success(), "round {round}"));
        assert!(
            load(&path.join("x.onnx"), Limits::default()).is_ok(),
            "{:?}",
            names(path)
        );
        assert_eq!(names(path).len(), 5, "{:?}", names(path));
    }
    assert!(path.join(".onnx-prune-lives0.tmp").exists());
}

/// A file of the model shrinks while it is worked on: small ones are in memory by then, of large ones that is said.
#[test]
fn a_model_that_shrinks_meanwhile_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (width, file, waits) in [
        (400, "m.onnx", [20, 60, 120, 200]),
        (4200, "m.onnx.bin", [100, 300, 500, 900]),
    ] {
        for wait in waits {
            let model = external(path, "m.onnx", width);
            let child = spawn(&format!(
                "{} --target macs=0.8 --no-verify -q -o {}/x.onnx",
                model.display(),
                path.display()
            ));
            std::thread::sleep(Duration::from_millis(wait));
            std::fs::File::options()
                .write(true)
                .open(path.join(file))
                .unwrap()
                .set_len(100)
                .unwrap();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let told = output.status.code() == Some(2)
                && said.starts_with("error: ")
                && said.lines().count() == 1;
            assert!(
                told || output.status.code() == Some(0),
                "{wait} ms: {:?} {said}",
                output.status
            );
        }
    }
}

/// Nobody reads what is said: no error.
#[test]
fn closed_pipes_are_no_error() {
    for options in ["-vv", "-v", ""] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = program();
        command
            .arg(fixture("digits_cnn.onnx"))
            .args(options.split_whitespace())
            .arg("-o")
            .arg(folder.path().join("x.onnx"));
        command.args(["--target", "macs=0.7"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(0), "{options}");
    }
}
