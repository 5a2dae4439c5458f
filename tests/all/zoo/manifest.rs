//! What the zoo's manifest says of each graph.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// The folder and its graphs, in the manifest's order.
pub struct Zoo {
    pub folder: PathBuf,
    pub graphs: Vec<Graph>,
}

#[derive(Deserialize)]
struct Manifest {
    graphs: Vec<Graph>,
}

/// One graph.
#[derive(Deserialize)]
pub struct Graph {
    pub name: String,
    pub nodes: usize,
    pub params: u64,
    pub sample: bool,
    pub inputs: Vec<Input>,
    /// Sizes of the named axes at which the graph is known to run.
    pub checked: Vec<BTreeMap<String, usize>>,
}

/// One input of a graph.
#[derive(Deserialize)]
pub struct Input {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<Axis>,
    pub example: Vec<usize>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// An extent: a number, or the name of what it is.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Axis {
    Number(usize),
    Name(String),
}

impl Zoo {
    /// The zoo of the corpus, or a visible note that it is not here.
    pub fn find() -> Option<Self> {
        let given = std::env::var_os("ONNX_PRUNE_CORPUS").map(PathBuf::from);
        let folder = given
            .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"))
            .join("zoo");
        let Ok(text) = std::fs::read_to_string(folder.join("manifest.json")) else {
            eprintln!(
                "SKIP: no zoo at {} (set ONNX_PRUNE_CORPUS)",
                folder.display()
            );
            return None;
        };
        // Python writes numbers that are none (the spread of outputs that are empty) as JSON has no word for.
        let manifest: Manifest = serde_json::from_str(&text.replace(": NaN", ": null")).unwrap();
        Some(Zoo {
            folder,
            graphs: manifest.graphs,
        })
    }
}

impl Graph {
    /// The sizes that its inputs are run at: the first and the last that are known to do.
    pub fn sizes(&self) -> Vec<BTreeMap<String, usize>> {
        match self.checked.as_slice() {
            [] => vec![BTreeMap::new()],
            [only] => vec![only.clone()],
            [first, .., last] => vec![first.clone(), last.clone()],
        }
    }
}
