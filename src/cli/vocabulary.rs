//! Tokens that stay: how they are found, and the files that go with a smaller vocabulary.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};

use super::args::Prune;
use super::keep::TokenChoice;
use super::stop::Stop;
use super::watch::Watch;
use crate::analysis::{KeptTokens, Kind};
use crate::calibrate::{Dataset, ModelInputs};
use crate::files::{Place, Staged};
use crate::model::Model;
use crate::prune::{Outcome, Request};
use crate::score::Scorer;
use crate::vocabulary::{self, TokenList, Tokenizer};

/// Where a tokenizer lies beside its model.
const TOKENIZER: &str = "tokenizer.json";

/// Asks for the vocabulary alone where no target is named.
pub(super) fn alone(args: &Prune, request: Request) -> Request {
    if args.tokens.keep_tokens.is_none() || !args.target.is_empty() {
        return request;
    }
    Request {
        drift: None,
        cautious: false,
        score: Scorer::norm(),
        recover: None,
        training: None,
        kinds: vec![Kind::Vocabulary],
        ..request
    }
}

/// What is read and written of a vocabulary; nothing where all of it stays.
#[derive(Default)]
pub(super) struct TokenFiles {
    keep: Option<TokenChoice>,
    list: Option<TokenList>,
    tokenizer: Option<Tokenizer>,
    map: Option<Place>,
    cut: Option<Place>,
}

impl TokenFiles {
    /// Reads the list and the tokenizer, and claims what is to be written. Errors: a file that cannot be read or written.
    pub fn claim(
        args: &Prune,
        request: &Request,
        target: &Path,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let keep = args.tokens.keep_tokens.clone();
        let plan = request.plan.as_ref();
        if keep.is_none() && plan.is_none_or(|plan| plan.vocabulary.is_none()) {
            return Ok(TokenFiles::default());
        }
        let mut files = TokenFiles {
            keep,
            ..Default::default()
        };
        let outputs = &stop.outputs;
        if let Some(TokenChoice::Listed(path)) = &files.keep {
            outputs.reads(path, "the list of tokens")?;
            files.list = Some(TokenList::read(path).context("--keep-tokens")?);
        }
        let beside = args
            .model
            .as_ref()
            .map(|model| model.with_file_name(TOKENIZER))
            .filter(|path| path.is_file());
        if let Some(path) = &beside {
            outputs.reads(path, "the tokenizer")?;
            files.tokenizer = Some(Tokenizer::read(path)?);
        }
        if args.outputs.dry_run {
            return Ok(files);
        }
        files.map = Some(outputs.claim(&target.with_extension("tokens.json"), "the map of ids")?);
        if let Some(path) = beside {
            let own = target.with_file_name(TOKENIZER);
            let place = if same_folder(&own, &path) {
                target.with_extension(TOKENIZER)
            } else {
                own
            };
            files.cut = Some(outputs.claim(&place, "the smaller tokenizer")?);
        }
        Ok(files)
    }

    /// Finds the vocabulary; until they are chosen, all tokens stay. Errors: there is none that can be cut.
    pub fn find(
        &self,
        model: &Model,
        ends: &ModelInputs,
        request: &mut Request,
    ) -> anyhow::Result<()> {
        if self.keep.is_some() {
            request.tokens = Some(vocabulary::find(model, ends).context("--keep-tokens")?);
        }
        Ok(())
    }

    /// Chooses the tokens that stay. Errors: tokens or ids that the vocabulary does not have, no inputs to count them in.
    pub fn choose(
        &self,
        request: &mut Request,
        data: &Dataset,
        watch: &Watch,
    ) -> anyhow::Result<()> {
        let Some(tokens) = &mut request.tokens else {
            return Ok(());
        };
        let tokenizer = self.tokenizer.as_ref();
        let asked = match &self.list {
            Some(list) => list.ids(tokenizer).context("--keep-tokens")?,
            None if data.synthetic || data.inputs.count() == 0 => {
                bail!(
                    "--keep-tokens auto keeps the ids that occur in inputs: give these with --data"
                )
            }
            None => data.ids(&tokens.ends.inputs)?,
        };
        let kept = Tokenizer::closed(tokenizer, &asked, tokens.rows).context("--keep-tokens")?;
        let more = kept.len().saturating_sub(asked.len());
        let needed = match (more, tokenizer) {
            (0, Some(_)) => String::new(),
            (more, Some(_)) => format!(", {more} of them because the tokenizer needs them"),
            (_, None) => {
                "; there is no tokenizer.json beside the model, so what is listed is all that stays"
                    .to_owned()
            }
        };
        watch.say(&format!(
            "vocabulary: {} of {} tokens stay{needed}",
            kept.len(),
            tokens.rows
        ));
        *tokens = KeptTokens {
            kept,
            ..tokens.clone()
        };
        Ok(())
    }

    /// Writes the map of ids and the smaller tokenizer beside their places. Errors: what the file system says.
    pub fn stage(
        &self,
        outcome: &Outcome,
        staged: &mut Staged,
        watch: &Watch,
    ) -> anyhow::Result<()> {
        let Some(cut) = &outcome.vocabulary else {
            return Ok(());
        };
        if let Some(place) = &self.map {
            let text = vocabulary::map(&cut.tokens, &cut.outputs(outcome));
            staged.write(place, |file| file.write_all(text.as_bytes()))?;
            watch.say(&format!("the new ids are in {}", place.given.display()));
        }
        if let (Some(tokenizer), Some(place)) = (&self.tokenizer, &self.cut) {
            let text = tokenizer.cut(&cut.tokens.kept)?;
            staged.write(place, |file| file.write_all(text.as_bytes()))?;
            watch.say(&format!(
                "the tokenizer for them is {}",
                place.given.display()
            ));
        }
        Ok(())
    }
}

/// Whether two files lie in one folder.
fn same_folder(one: &Path, other: &Path) -> bool {
    let folder = |path: &Path| {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new(".")).canonicalize().ok()
    };
    folder(one).is_some() && folder(one) == folder(other)
}
