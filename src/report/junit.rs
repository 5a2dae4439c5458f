//! Reports for CI servers: every check is a test case.

use super::{CheckVerdict, ExactnessVerdict, Report, sentences};

/// The report as JUnit XML.
pub fn junit(report: &Report) -> String {
    let cases = cases(report);
    let count = |wanted: CheckVerdict| {
        cases
            .iter()
            .filter(|(_, outcome, _)| *outcome == wanted)
            .count()
    };
    let (failures, errors, skipped) = (
        count(CheckVerdict::Fail),
        count(CheckVerdict::Unverifiable),
        count(CheckVerdict::Skipped),
    );
    let seconds: f64 = report.seconds.values().sum();
    let suite = escape(&report.model.path);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failures}\" \
         errors=\"{errors}\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n",
        cases.len()
    );
    if let Some(fed) = &report.fed {
        text += &format!(
            "    <properties><property name=\"inputs\" value=\"{}\"/></properties>\n",
            escape(&fed.line)
        );
    }
    text.extend(cases.iter().map(element));
    let lines: Vec<String> = sentences::said(report)
        .map(|(what, said)| escape(&format!("{what}: {said}")))
        .collect();
    if !lines.is_empty() {
        text += &format!("    <system-out>{}</system-out>\n", lines.join("\n"));
    }
    text + "  </testsuite>\n</testsuites>\n"
}

/// Name, outcome and message of a test case.
type JunitCase = (String, CheckVerdict, String);

/// The test cases: exactness, the checks, and that the drift was measured.
fn cases(report: &Report) -> Vec<JunitCase> {
    let mut cases = Vec::new();
    let exactness = match report.exactness.verdict {
        ExactnessVerdict::Exact => CheckVerdict::Pass,
        ExactnessVerdict::Inexact => CheckVerdict::Fail,
        ExactnessVerdict::Unverifiable => CheckVerdict::Unverifiable,
        ExactnessVerdict::Skipped => CheckVerdict::Skipped,
    };
    cases.push((
        "exactness".to_owned(),
        exactness,
        sentences::exactness(report),
    ));
    cases.extend(
        report
            .checks
            .iter()
            .map(|check| (check.name.clone(), check.verdict, check.message.clone())),
    );
    if !report.drift.outputs.is_empty() {
        cases.push((
            "drift measured".to_owned(),
            CheckVerdict::Pass,
            sentences::drift(report),
        ));
    }
    cases
}

/// One test case as a line of XML.
fn element((name, outcome, message): &JunitCase) -> String {
    let (name, message) = (escape(name), escape(message));
    let content = match outcome {
        CheckVerdict::Fail => format!("<failure message=\"{message}\"/>"),
        CheckVerdict::Unverifiable => format!("<error message=\"{message}\"/>"),
        CheckVerdict::Skipped => "<skipped/>".to_owned(),
        CheckVerdict::Pass | CheckVerdict::Measured => {
            format!("<system-out>{message}</system-out>")
        }
    };
    format!("    <testcase classname=\"onnx-prune\" name=\"{name}\">{content}</testcase>\n")
}

/// Text for XML; control characters that it cannot hold are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Check;

    #[test]
    fn failures_are_counted_and_escaped() {
        let check = |verdict| Check {
            name: "--max-drift 0.1 <\"&".to_owned(),
            verdict,
            message: "0.2".to_owned(),
        };
        let report = Report {
            checks: vec![check(CheckVerdict::Fail), check(CheckVerdict::Pass)],
            ..Default::default()
        };
        let text = junit(&report);
        assert!(
            text.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\""),
            "{text}"
        );
        assert!(
            text.contains("name=\"--max-drift 0.1 &lt;&quot;&amp;\""),
            "{text}"
        );
    }
}
