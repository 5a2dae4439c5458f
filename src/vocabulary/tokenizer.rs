//! `tokenizer.json`, the form of the library *tokenizers*: what of it speaks of ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde_json::{Value, json};

use super::{VocabularyError, merges};

/// A tokenizer as its file has it.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    json: Value,
    /// Ids of all tokens, of the model and added.
    ids: HashMap<String, i64>,
    /// Whether the model's tokens are a list with scores, in which a token's place is its id.
    listed: bool,
}

impl Tokenizer {
    /// Reads a file. Errors: it cannot be read, or is not of this form.
    pub fn read(path: &Path) -> Result<Self, VocabularyError> {
        let error = |problem: String| VocabularyError::File {
            path: path.display().to_string(),
            problem,
        };
        let text = crate::files::text(path).map_err(|problem| error(problem.to_string()))?;
        Tokenizer::parse(&text).map_err(|problem| error(problem.to_string()))
    }

    /// Reads its text. Errors: it is not of this form.
    pub fn parse(text: &str) -> Result<Self, VocabularyError> {
        let json: Value = serde_json::from_str(text)
            .map_err(|problem| VocabularyError::Tokenizer(problem.to_string()))?;
        let mut ids = HashMap::new();
        let vocab = &json["model"]["vocab"];
        match vocab {
            Value::Object(vocab) => {
                let pairs = vocab.iter();
                ids.extend(pairs.filter_map(|(token, id)| Some((token.clone(), id.as_i64()?))));
            }
            Value::Array(vocab) => {
                let tokens = vocab.iter().zip(0..);
                ids.extend(
                    tokens.filter_map(|(entry, id)| Some((entry.get(0)?.as_str()?.to_owned(), id))),
                );
            }
            _ => {
                let problem = "it has no model with a vocabulary".to_owned();
                return Err(VocabularyError::Tokenizer(problem));
            }
        }
        let listed = vocab.is_array();
        let mut tokenizer = Tokenizer { json, ids, listed };
        let added: Vec<(String, i64)> = tokenizer.added().collect();
        tokenizer.ids.extend(added);
        Ok(tokenizer)
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<i64> {
        self.ids.get(token).copied()
    }

    fn row(&self, token: &str) -> Option<u32> {
        self.id(token).and_then(|id| u32::try_from(id).ok())
    }

    fn added(&self) -> impl Iterator<Item = (String, i64)> {
        let entries = self.json["added_tokens"].as_array().into_iter().flatten();
        entries.filter_map(|entry| {
            let token = entry["content"].as_str()?.to_owned();
            Some((token, entry["id"].as_i64()?))
        })
    }

    fn merges(&self) -> &[Value] {
        self.json["model"]["merges"]
            .as_array()
            .map_or(&[], Vec::as_slice)
    }

    /// What continued tokens begin with.
    fn prefix(&self) -> &str {
        let prefix = &self.json["model"]["continuing_subword_prefix"];
        prefix.as_str().unwrap_or("")
    }

    /// The tokens that it cannot do without, each with what it is: added ones (special tokens among them), the one for what is
    /// unknown, those that stand before, behind and between sentences, padding, and bytes.
    pub(super) fn needed(&self) -> BTreeMap<i64, String> {
        let mut needed: BTreeMap<i64, String> = BTreeMap::new();
        let named = |name: &str| format!("the token '{name}' that the tokenizer adds");
        needed.extend(self.added().map(|(token, id)| (id, named(&token))));
        let model = &self.json["model"];
        let unknown = model["unk_token"].as_str().and_then(|token| self.id(token));
        let unknown = unknown.or(model["unk_id"].as_i64().filter(|_| self.listed));
        needed.extend(unknown.map(|id| (id, "the unknown token".to_owned())));
        let padding = self.json["padding"]["pad_id"].as_i64();
        needed.extend(padding.map(|id| (id, "the padding".to_owned())));
        let mut json = self.json["post_processor"].clone();
        ids_around(&mut json, &mut |id| {
            let around = id
                .as_i64()
                .map(|id| (id, "which the post-processor adds".to_owned()));
            needed.extend(around);
            Ok(())
        })
        .unwrap_or_default();
        let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
        let alphabet = self
            .is_byte_level()
            .then(byte_letters)
            .into_iter()
            .flatten();
        let kept = bytes.chain(alphabet).filter_map(|token| self.id(&token));
        needed.extend(kept.map(|id| (id, "which stands for a byte".to_owned())));
        needed
    }

    /// Whether letters stand for bytes.
    fn is_byte_level(&self) -> bool {
        fn named(part: &Value) -> bool {
            match part {
                Value::Object(fields) => {
                    fields.get("type").is_some_and(|name| name == "ByteLevel")
                        || fields.values().any(named)
                }
                Value::Array(parts) => parts.iter().any(named),
                _ => false,
            }
        }
        ["pre_tokenizer", "decoder", "post_processor"]
            .iter()
            .any(|part| named(&self.json[*part]))
    }

    /// Adds the tokens that kept ones are merged from.
    pub(super) fn add_parts(&self, kept: &mut BTreeSet<u32>) {
        merges::add_parts(self.merges(), self.prefix(), |token| self.row(token), kept);
    }

    /// The same tokenizer with these tokens alone (ascending ids), counted anew, as JSON. Errors: an id outside of tokens that
    /// goes.
    pub fn cut(&self, kept: &[u32]) -> Result<String, VocabularyError> {
        let new = |old: i64| {
            let old = u32::try_from(old).ok()?;
            kept.binary_search(&old).ok().map(|new| new as i64)
        };
        let renumber = |id: &mut Value| match (id.as_i64(), id.as_i64().and_then(new)) {
            (Some(_), Some(new)) => {
                *id = json!(new);
                Ok(())
            }
            (Some(old), None) => Err(VocabularyError::Tokenizer(format!(
                "id {old} is used beside the vocabulary, and is not kept"
            ))),
            (None, _) => Ok(()),
        };
        let mut json = self.json.clone();
        let prefix = self.prefix().to_owned();
        let stays = |token: &str| self.id(token).and_then(new).is_some();
        if let Some(merges) = json["model"]
            .get_mut("merges")
            .and_then(Value::as_array_mut)
        {
            merges::cut(merges, &prefix, stays);
        }
        match json["model"].get_mut("vocab") {
            Some(Value::Object(vocab)) => {
                vocab.retain(|_, id| id.as_i64().and_then(new).is_some());
                vocab.values_mut().try_for_each(renumber)?;
            }
            Some(Value::Array(vocab)) => {
                let mut place = -1;
                vocab.retain(|_| {
                    place += 1;
                    new(place).is_some()
                });
            }
            _ => {}
        }
        if let Some(id) = json["model"].get_mut("unk_id") {
            renumber(id)?;
        }
        if let Some(id) = json["padding"].get_mut("pad_id") {
            renumber(id)?;
        }
        for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
            token.get_mut("id").map_or(Ok(()), renumber)?;
        }
        if let Some(post) = json.get_mut("post_processor") {
            ids_around(post, &mut |id| renumber(id))?;
        }
        Ok(format!("{json:#}\n"))
    }
}

/// Goes through the ids that a post-processor puts round sentences.
fn ids_around(
    post: &mut Value,
    each: &mut dyn FnMut(&mut Value) -> Result<(), VocabularyError>,
) -> Result<(), VocabularyError> {
    for part in post
        .get_mut("processors")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        ids_around(part, each)?;
    }
    // ["[SEP]", 102]
    for name in ["sep", "cls"] {
        if let Some(id) = post.get_mut(name).and_then(|pair| pair.get_mut(1)) {
            each(id)?;
        }
    }
    // {"[SEP]": {"id": "[SEP]", "ids": [102], "tokens": ["[SEP]"]}}
    let special = post
        .get_mut("special_tokens")
        .and_then(Value::as_object_mut);
    for token in special.into_iter().flat_map(serde_json::Map::values_mut) {
        let ids = token.get_mut("ids").and_then(Value::as_array_mut);
        ids.into_iter().flatten().try_for_each(&mut *each)?;
    }
    Ok(())
}

/// The letters that stand for bytes where these are written as text: printable ones for themselves, the others from U+0100 on.
fn byte_letters() -> impl Iterator<Item = String> {
    let printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..=u8::MAX).filter(move |byte| !printable(byte));
    let shifted = others
        .zip(0x100u32..)
        .filter_map(|(_, letter)| char::from_u32(letter));
    let same = (0..=u8::MAX).filter(printable).map(char::from);
    same.chain(shifted).map(String::from)
}

#[cfg(test)]
mod tests;
