//! Tables of single weights that are zero.

use super::view::{TextTable, UNKNOWN};
use super::{Report, units};

/// Zeros, and what they save on disk.
pub fn sparsity(report: &Report) -> TextTable {
    let mut table = TextTable::new(&["", "before", "after", "remains"], &[0]);
    let Some(sparsity) = &report.sparsity else {
        return table;
    };
    let stays = sparsity.elements - sparsity.zeros;
    table.rows.push(vec![
        match &*sparsity.pattern {
            "none" => "weights that are not zero".to_owned(),
            pattern => format!("weights that are not zero ({pattern})"),
        },
        units::count(sparsity.elements as u64),
        units::count(stays as u64),
        units::ratio(stays as f64, sparsity.elements as f64),
    ]);
    let bytes = |name: &str, before: u64, after: u64| {
        let ratio = units::ratio(after as f64, before as f64);
        vec![
            name.to_owned(),
            units::bytes(before),
            units::bytes(after),
            ratio,
        ]
    };
    if let Some(after) = &report.pruned {
        table
            .rows
            .push(bytes("size", report.original.bytes, after.bytes));
    }
    if let (Some(before), Some(after)) = sparsity.deflated {
        table.rows.push(bytes("size under deflate", before, after));
    }
    table
}

/// Zeros layer by layer, in the order of the model.
pub fn sparse_layers(report: &Report, limit: usize) -> TextTable {
    let mut table = TextTable::new(
        &["weight", "elements", "zeros", "share", "error", "fitted"],
        &[0],
    );
    let Some(sparsity) = &report.sparsity else {
        return table;
    };
    table.left_out = sparsity.layers.len().saturating_sub(limit);
    for layer in sparsity.layers.iter().take(limit) {
        let error = |of: fn((f64, f64)) -> f64| {
            layer
                .error
                .map_or_else(|| UNKNOWN.to_owned(), |error| units::error(of(error)))
        };
        table.rows.push(vec![
            layer.weight.clone(),
            units::count(layer.elements as u64),
            units::count(layer.zeros as u64),
            units::percent(layer.zeros as f64 / layer.elements.max(1) as f64),
            error(|error| error.0),
            error(|error| error.1),
        ]);
    }
    table
}

/// Weights that were not thinned out.
pub fn left_dense(report: &Report, limit: usize) -> TextTable {
    let mut table = TextTable::new(&["weight", "elements", "why"], &[0, 2]);
    let left = report
        .sparsity
        .iter()
        .flat_map(|sparsity| &sparsity.left_dense);
    let rows: Vec<Vec<String>> = left
        .map(|left| {
            vec![
                left.weight.clone(),
                units::count(left.elements as u64),
                left.reason.clone(),
            ]
        })
        .collect();
    table.left_out = rows.len().saturating_sub(limit);
    table.rows = rows.into_iter().take(limit).collect();
    table
}
