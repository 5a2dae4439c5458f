//! Merges of a byte-pair tokenizer: which pair of tokens gives which.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A merge: two tokens, and the one that they give.
struct Merge {
    left: String,
    right: String,
    result: String,
}

impl Merge {
    /// Reads a merge in either of its forms, `"a b"` or `["a", "b"]`. Continued tokens begin with `prefix`, once.
    fn read(merge: &Value, prefix: &str) -> Option<Self> {
        let (left, right) = match merge {
            Value::String(text) => text.split_once(' ')?,
            Value::Array(parts) => match &parts[..] {
                [left, right] => (left.as_str()?, right.as_str()?),
                _ => return None,
            },
            _ => return None,
        };
        let rest: String = right.chars().skip(prefix.chars().count()).collect();
        Some(Merge {
            left: left.to_owned(),
            right: right.to_owned(),
            result: format!("{left}{rest}"),
        })
    }
}

/// Adds the ids of all tokens that those kept are merged from, by any way that there is: what is spelt with kept tokens is
/// then split as before.
pub(super) fn add_parts(
    merges: &[Value],
    prefix: &str,
    id: impl Fn(&str) -> Option<u32>,
    kept: &mut BTreeSet<u32>,
) {
    let mut parts: BTreeMap<u32, Vec<[u32; 2]>> = BTreeMap::new();
    for merge in merges.iter().filter_map(|merge| Merge::read(merge, prefix)) {
        if let (Some(left), Some(right), Some(result)) =
            (id(&merge.left), id(&merge.right), id(&merge.result))
        {
            parts.entry(result).or_default().push([left, right]);
        }
    }
    let mut waiting: Vec<u32> = kept.iter().copied().collect();
    while let Some(token) = waiting.pop() {
        let more = parts.get(&token).into_iter().flatten().flatten();
        waiting.extend(more.filter(|part| kept.insert(**part)));
    }
}

/// Removes the merges that a token is missing for.
pub(super) fn cut(merges: &mut Vec<Value>, prefix: &str, is_kept: impl Fn(&str) -> bool) {
    merges.retain(|merge| {
        Merge::read(merge, prefix).is_some_and(|merge| {
            is_kept(&merge.left) && is_kept(&merge.right) && is_kept(&merge.result)
        })
    });
}
