//! Which tokens stay: those that are listed, and those that a tokenizer cannot do without.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Tokenizer, VocabularyError};

/// Tokens named in a message, at most.
const NAMED: usize = 8;

/// Tokens that a file lists, one a line.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenList {
    /// By their ids.
    Ids(Vec<i64>),
    /// As a tokenizer spells them.
    Tokens(Vec<String>),
}

impl TokenList {
    /// Reads a list: ids where every line is a whole number, else tokens. Empty lines do not count. Errors: it cannot be read.
    pub fn read(path: &Path) -> Result<Self, VocabularyError> {
        let text = crate::files::text(path).map_err(|problem| VocabularyError::File {
            path: path.display().to_string(),
            problem: problem.to_string(),
        })?;
        Ok(TokenList::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let ids: Option<Vec<i64>> = lines.clone().map(|line| line.trim().parse().ok()).collect();
        match ids {
            Some(ids) => TokenList::Ids(ids),
            None => TokenList::Tokens(lines.map(str::to_owned).collect()),
        }
    }

    /// The ids of what is listed. Errors: tokens without a tokenizer, or that it does not know.
    pub fn ids(&self, tokenizer: Option<&Tokenizer>) -> Result<BTreeSet<i64>, VocabularyError> {
        let tokens = match self {
            TokenList::Ids(ids) => return Ok(ids.iter().copied().collect()),
            TokenList::Tokens(tokens) => tokens,
        };
        let Some(tokenizer) = tokenizer else {
            return Err(VocabularyError::Tokenizer(
                "tokens are listed by their text, and there is no tokenizer.json beside the model"
                    .to_owned(),
            ));
        };
        let (mut ids, mut unknown) = (BTreeSet::new(), Vec::new());
        for token in tokens {
            match tokenizer.id(token) {
                Some(id) => _ = ids.insert(id),
                None => unknown.push(format!("'{token}'")),
            }
        }
        if unknown.is_empty() {
            return Ok(ids);
        }
        Err(VocabularyError::Tokenizer(format!(
            "it does not know {} of the tokens listed: {}",
            unknown.len(),
            unknown[..unknown.len().min(NAMED)].join(", ")
        )))
    }
}

impl Tokenizer {
    /// The tokens that stay where these are asked for, ascending: with those that a tokenizer, where there is one, cannot do
    /// without. Errors: ids that the vocabulary does not have.
    pub fn closed(
        tokenizer: Option<&Tokenizer>,
        asked: &BTreeSet<i64>,
        rows: usize,
    ) -> Result<Vec<u32>, VocabularyError> {
        let mut kept = BTreeSet::new();
        let needed = tokenizer.map(Tokenizer::needed).unwrap_or_default();
        let listed = asked.iter().map(|id| (*id, "which is to stay".to_owned()));
        for (id, what) in listed.chain(needed) {
            let row = u32::try_from(id).ok().filter(|id| (*id as usize) < rows);
            kept.insert(row.ok_or(VocabularyError::Outside { id, what, rows })?);
        }
        if kept.is_empty() {
            return Err(VocabularyError::Empty);
        }
        if let Some(tokenizer) = tokenizer {
            tokenizer.add_parts(&mut kept);
        }
        Ok(kept
            .into_iter()
            .filter(|id| (*id as usize) < rows)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_of_ids_where_every_line_is_a_number() {
        assert_eq!(
            TokenList::parse("3\n\n 12 \r\n0\n"),
            TokenList::Ids(vec![3, 12, 0])
        );
        let tokens = TokenList::parse("the\n##ing\r\n▁a\n7\n");
        let expected = ["the", "##ing", "▁a", "7"].map(str::to_owned).to_vec();
        assert_eq!(tokens, TokenList::Tokens(expected));
        assert!(
            tokens
                .ids(None)
                .unwrap_err()
                .to_string()
                .contains("tokenizer.json")
        );
    }

    #[test]
    fn ids_beyond_the_table_are_refused() {
        let asked = BTreeSet::from([1, 9]);
        let refused = Tokenizer::closed(None, &asked, 9).unwrap_err();
        assert!(refused.to_string().contains("id 9"), "{refused}");
        assert_eq!(Tokenizer::closed(None, &asked, 10).unwrap(), [1, 9]);
        assert!(matches!(
            Tokenizer::closed(None, &BTreeSet::new(), 9),
            Err(VocabularyError::Empty)
        ));
    }
}
