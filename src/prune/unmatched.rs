//! Patterns that name no group are said to.

use globset::GlobMatcher;

use super::patterns::Pattern;
use super::request::names;
use super::{PruneError, Request};
use crate::workspace::Workspace;

/// Names that are said for one that is not there.
const NEAREST: usize = 3;

/// What the user should know of patterns that match no group. Errors: groups are named that alone may be cut, and there are
/// none of them.
pub(super) fn unmatched(
    request: &Request,
    prepared: &Workspace,
) -> Result<Vec<String>, PruneError> {
    if request.only.is_empty() && request.exclude.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<String> = prepared
        .analysis
        .groups
        .iter()
        .flat_map(|group| names(&prepared.working, group))
        .collect();
    let without = |globs: &[Pattern]| -> Vec<String> {
        let matches = |matcher: GlobMatcher| known.iter().any(|name| matcher.is_match(name));
        globs
            .iter()
            .filter(|glob| !matches(glob.matcher()))
            .map(|glob| explain(glob, &known, prepared))
            .collect()
    };
    let only = without(&request.only);
    if !request.only.is_empty() && only.len() == request.only.len() {
        return Err(PruneError::NoMatch(only.join("; ")));
    }
    Ok([only, without(&request.exclude)].concat())
}

fn explain(glob: &Pattern, known: &[String], prepared: &Workspace) -> String {
    let matcher = glob.matcher();
    let model = &prepared.working;
    let nodes = model
        .index()
        .nodes()
        .map(|(node, _)| model.node_label(node));
    let values = model.index().values().map(|(_, entry)| entry.name.as_str());
    if let Some(name) = nodes.chain(values).find(|name| matcher.is_match(name)) {
        return format!(
            "no group of units matches '{}': '{name}' is part of none",
            glob.text()
        );
    }
    format!(
        "no group of units matches '{}'; the nearest names are {}",
        glob.text(),
        nearest(glob.text(), known).join(", ")
    )
}

/// The names that have most in common with a pattern, each said once.
fn nearest(pattern: &str, known: &[String]) -> Vec<String> {
    let pairs = |text: &str| -> Vec<(char, char)> {
        let letters: Vec<char> = text
            .to_lowercase()
            .chars()
            .filter(|letter| letter.is_alphanumeric())
            .collect();
        letters
            .windows(2)
            .filter_map(|pair| Some((*pair.first()?, *pair.last()?)))
            .collect()
    };
    let wanted = pairs(pattern);
    let common = |name: &String| {
        let own = pairs(name);
        let shared = wanted.iter().filter(|pair| own.contains(pair)).count();
        2.0 * shared as f64 / (wanted.len() + own.len()).max(1) as f64
    };
    let mut names: Vec<(f64, usize, &String)> = known
        .iter()
        .enumerate()
        .map(|(at, name)| (common(name), at, name))
        .collect();
    names.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut found: Vec<String> = Vec::new();
    for (.., name) in names {
        if found.len() < NEAREST && !found.contains(name) {
            found.push(name.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Options;
    use crate::model::text;

    #[test]
    fn patterns_that_match_nothing_are_said_to() {
        let graph = "input x f32[n,4]\nconst first.weight f32[4,8]\nconst second.weight f32[8,3]\na = MatMul(x, first.weight)\nb = Relu(a)
            y = MatMul(b, second.weight)\noutput y";
        let prepared = Workspace::new(&text::model(graph).unwrap(), &Options::default()).unwrap();
        let said = |only: &[&str], exclude: &[&str]| {
            let globs = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
            let request = Request {
                only: globs(only),
                exclude: globs(exclude),
                ..Default::default()
            };
            unmatched(&request, &prepared).map_err(|error| error.to_string())
        };
        assert_eq!(said(&["first*"], &["*second*"]), Ok(Vec::new()));
        let error = said(&["frist.weight"], &[]).unwrap_err();
        assert!(
            error.contains(
                "no group of units matches 'frist.weight'; the nearest names are first.weight"
            ),
            "{error}"
        );
        let one = said(&["first*", "layer7*"], &["Relu*", "x"]).unwrap();
        assert!(
            one.len() >= 2
                && one[0].contains("'layer7*'")
                && one.last().unwrap().contains("'x' is part of none"),
            "{one:?}"
        );
    }
}
