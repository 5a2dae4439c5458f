//! What was found about one graph.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One line of the table. Kept as a file, so that a run can be taken up again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub nodes: usize,
    pub params: u64,
    /// Parameters that some unit holds, by default and with widths.
    pub prunable: u64,
    pub with_width: u64,
    /// Of the analysis.
    pub seconds: f64,
    /// Reasons and parameters, most parameters first.
    pub frozen: Vec<(String, u64)>,
    pub verdicts: Vec<Found>,
    /// Why the runtime that is built in can not run the original.
    pub refused: Option<String>,
    /// What broke before any verdict.
    pub failure: Option<String>,
}

/// What came of one plan at one size of the inputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    pub plan: String,
    pub verdict: Kind,
    pub error: Option<f64>,
    pub note: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Equal to the masked original, which differs from the original.
    Exact,
    /// What was removed hardly moves the outputs.
    Weak,
    /// Nothing to remove.
    Nothing,
    /// No runtime gives an answer.
    Open,
    /// Surgery failed, the file is invalid, or the outputs differ.
    Wrong,
}

impl Row {
    pub fn is_wrong(&self) -> bool {
        self.failure.is_some() || self.count(Kind::Wrong) > 0
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.verdicts
            .iter()
            .filter(|found| found.verdict == kind)
            .count()
    }

    pub fn largest_error(&self) -> Option<f64> {
        let errors = self
            .verdicts
            .iter()
            .filter(|found| found.verdict == Kind::Exact)
            .filter_map(|found| found.error);
        errors.reduce(f64::max)
    }

    pub fn share(&self, part: u64) -> f64 {
        if self.params == 0 {
            0.0
        } else {
            100.0 * part as f64 / self.params as f64
        }
    }

    /// For people who wait.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{:<48} {:>5} nodes {:.2} s, {:.0} % ({:.0} %):",
            self.name,
            self.nodes,
            self.seconds,
            self.share(self.prunable),
            self.share(self.with_width)
        );
        for kind in [
            Kind::Exact,
            Kind::Weak,
            Kind::Nothing,
            Kind::Open,
            Kind::Wrong,
        ] {
            let count = self.count(kind);
            if count > 0 {
                line += &format!(" {count} {kind:?}");
            }
        }
        let bad = self
            .verdicts
            .iter()
            .filter(|found| matches!(found.verdict, Kind::Wrong | Kind::Open))
            .take(2);
        bad.for_each(|found| line += &format!("; {}: {}", found.plan, found.note));
        for text in self.failure.iter().chain(&self.refused) {
            line += &format!("; {text}");
        }
        line
    }

    fn path(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join("zoo")
            .join(format!("{name}.json"))
    }

    /// The row that an earlier run found.
    pub fn read(name: &str) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(name)).ok()?).ok()
    }

    pub fn write(&self) {
        let path = Self::path(&self.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, serde_json::to_string_pretty(self).unwrap()).unwrap();
    }
}
