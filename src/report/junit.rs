//! For build servers: a test case for exactness, one for each output's drift.

use super::{DriftVerdict, ExactnessVerdict, Report, number};

enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// The report as JUnit's XML.
pub fn junit(report: &Report) -> String {
    let mut cases: Vec<(String, Outcome, String)> = Vec::new();
    if let Some(exactness) = &report.exactness {
        let outcome = match exactness.verdict {
            ExactnessVerdict::Exact => Outcome::Passed,
            ExactnessVerdict::Inexact => Outcome::Failed,
            ExactnessVerdict::Unverifiable | ExactnessVerdict::Skipped => Outcome::Skipped,
        };
        let error = exactness.max_relative_error.map(|error| format!("relative error {}", number(error)));
        let message: Vec<String> = error.into_iter().chain(exactness.reason.clone()).collect();
        cases.push(("exactness".into(), outcome, message.join(": ")));
    }
    if let Some(drift) = &report.drift {
        let outcome = || match drift.verdict {
            DriftVerdict::Pass => Outcome::Passed,
            DriftVerdict::Fail => Outcome::Failed,
            DriftVerdict::Unverifiable | DriftVerdict::Skipped => Outcome::Skipped,
        };
        if drift.outputs.is_empty() {
            cases.push(("drift".into(), outcome(), "not measured".into()));
        }
        for output in &drift.outputs {
            let agreement = output.top1_agreement.map_or(String::new(), |share| format!(", top-1 agreement {}", number(share)));
            let message = format!("relative L2 {}, cosine {}{agreement}", number(output.relative_l2), number(output.cosine));
            cases.push((format!("drift of {}", output.name), outcome(), message));
        }
    }
    let failures = cases.iter().filter(|case| matches!(case.1, Outcome::Failed)).count();
    let skipped = cases.iter().filter(|case| matches!(case.1, Outcome::Skipped)).count();
    let time: f64 = report.seconds.0.iter().map(|(_, seconds)| seconds).sum();
    let model = escape(&report.model.path);
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text += &format!(
        "<testsuite name=\"onnx-prune\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{time:.3}\">\n",
        cases.len()
    );
    for (name, outcome, message) in &cases {
        let message = escape(message);
        text += &format!("  <testcase classname=\"{model}\" name=\"{}\">\n", escape(name));
        text += &match outcome {
            Outcome::Passed => format!("    <system-out>{message}</system-out>\n"),
            Outcome::Failed => format!("    <failure message=\"{message}\"/>\n"),
            Outcome::Skipped => format!("    <skipped message=\"{message}\"/>\n"),
        };
        text += "  </testcase>\n";
    }
    text + "</testsuite>\n"
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            // XML has no way to write other control characters.
            _ if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            _ => escaped.push(letter),
        }
    }
    escaped
}
