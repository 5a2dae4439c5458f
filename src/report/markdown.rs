//! Reports for pull requests and wikis.

use super::sentences;
use super::view::{self, TextTable};
use super::{Report, units, zeros};

/// The report as Markdown.
pub fn markdown(report: &Report) -> String {
    let mut text = format!(
        "# {}\n\n{}",
        escape(&report.model.path),
        table(&view::costs(report))
    );
    let at = sentences::counted_at(report);
    if !at.is_empty() {
        text += &format!("\n{}\n", escape(&at));
    }
    if let Some(fed) = &report.fed {
        text += &format!("\n- **Inputs:** {}", escape(&fed.line));
    }
    text += &format!(
        "\n- **Exactness:** {}\n",
        escape(&sentences::exactness(report))
    );
    if !report.drift.outputs.is_empty() {
        text += &format!("- **Drift:** {}\n", escape(&sentences::drift(report)));
    }
    if let Some(labelled) = sentences::labelled(report) {
        text += &format!("- **Top-1 accuracy on labels:** {labelled}\n");
    }
    text.extend(sentences::said(report).map(line));
    for (title, part) in [
        ("Sweep", super::sweep::sweep(report)),
        ("Zeros", zeros::sparsity(report)),
        ("Checks", view::checks(report)),
        ("Layers", zeros::sparse_layers(report, usize::MAX)),
        ("Left as they are", zeros::left_dense(report, usize::MAX)),
        ("Outputs", view::outputs(report)),
        (
            "Inputs and outputs that changed",
            view::io_changed(report, usize::MAX),
        ),
        ("Trade-off", view::tradeoff(report)),
        ("Most sensitive", view::sensitive(report)),
        ("Groups cut", view::cut(report, usize::MAX)),
        ("Out of reach", view::frozen(report, usize::MAX)),
    ] {
        if !part.rows.is_empty() {
            text += &format!("\n## {title}\n\n{}", table(&part));
        }
    }
    text += "\n---\n\n";
    text += &format!("{} {}", report.tool.name, report.tool.version);
    if let Some(runtime) = &report.runtime {
        text += &format!(", {} {}", runtime.name, runtime.version);
    }
    if let Some(peak) = report.peak_rss_bytes {
        text += &format!(", peak memory {}", units::bytes(peak));
    }
    text += "\n";
    if let Some(digest) = &report.model.sha256 {
        text += &format!("\nSHA-256 of the original: `{digest}`\n");
    }
    text
}

/// A warning or note as a line of the list.
fn line((what, said): (&str, &str)) -> String {
    let mark = match what {
        "Note" => String::new(),
        what => format!("**{what}:** "),
    };
    format!("- {mark}{}\n", escape(said))
}

fn table(table: &TextTable) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = row(table.head.iter().map(|head| (*head).to_owned()).collect());
    text += &row((0..table.head.len())
        .map(|column| {
            if table.text.contains(&column) {
                "---"
            } else {
                "---:"
            }
            .to_owned()
        })
        .collect());
    table
        .rows
        .iter()
        .for_each(|cells| text += &row(cells.iter().map(|cell| escape(cell)).collect()));
    if let Some(below) = &table.below {
        text += &format!("\n{}\n", escape(below));
    }
    text
}

/// Names come from the model: nothing in them may act as markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '\\' | '#' => {
                escaped.extend(['\\', character])
            }
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}
