//! The map of ids, as a file that says how to feed the model.

use serde_json::{Map, Value, json};

use crate::analysis::KeptTokens;

/// The map of ids as JSON, ending in a newline: `ids` has the new id for each old one that stays.
pub fn map(tokens: &KeptTokens, outputs: &[String]) -> String {
    let ids: Map<String, Value> = tokens
        .kept
        .iter()
        .enumerate()
        .map(|(new, old)| (old.to_string(), json!(new)))
        .collect();
    let inputs: Vec<&String> = tokens.ends.inputs.iter().collect();
    let map = json!({
        "format": 1,
        "inputs": inputs,
        "outputs": outputs,
        "rows": {"before": tokens.rows, "after": tokens.kept.len()},
        "ids": ids,
    });
    format!("{map:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::TokenEnds;

    #[test]
    fn old_ids_have_new_ones_in_their_order() {
        let tokens = KeptTokens {
            ends: TokenEnds {
                inputs: ["ids".to_owned()].into(),
                outputs: Default::default(),
            },
            rows: 12,
            kept: vec![0, 4, 11],
        };
        let map: Value = serde_json::from_str(&map(&tokens, &["logits".to_owned()])).unwrap();
        assert_eq!(map["ids"], json!({"0": 0, "4": 1, "11": 2}));
        assert_eq!(map["rows"], json!({"before": 12, "after": 3}));
        assert_eq!(
            (&map["inputs"][0], &map["outputs"][0]),
            (&json!("ids"), &json!("logits"))
        );
    }
}
