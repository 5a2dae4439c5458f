//! For pull requests and wikis.

use super::Report;
use super::sections::{Align, sections};
use super::terminal::opsets;

/// The report as Markdown, with all rows.
pub fn markdown(report: &Report) -> String {
    let mut text = format!("# {}\n\n{}, {} nodes\n", escape(&report.model.path), escape(&opsets(report)), report.model.nodes);
    for section in sections(report, usize::MAX) {
        text += &format!("\n## {}\n\n", section.title);
        if !section.rows.is_empty() {
            let titles: Vec<String> = section.columns.iter().map(|column| escape(column.title)).collect();
            let rules = section.columns.iter().map(|column| if column.align == Align::Right { "--:" } else { ":--" });
            text += &format!("| {} |\n| {} |\n", titles.join(" | "), rules.collect::<Vec<_>>().join(" | "));
            for row in &section.rows {
                text += &format!("| {} |\n", row.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join(" | "));
            }
            text += "\n";
        }
        for remark in &section.remarks {
            text += &format!("- {}\n", escape(remark));
        }
    }
    let tool = &report.tool;
    text += &format!("\n---\n{} {}, model {}\n", escape(&tool.name), escape(&tool.version), escape(&report.model.sha256));
    text
}

/// Names from a model must not become markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '\\' | '#' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            '\n' | '\r' => escaped.push(' '),
            _ => escaped.push(letter),
        }
    }
    escaped
}
