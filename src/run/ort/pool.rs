//! Sessions of one model: as many as run at a time, for a session of ONNX Runtime is used by one thread only.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use prost::Message;

use super::error::OrtFailure;
use crate::model::{Model, encoded_len, save};
use crate::run::quiet::quiet;

/// Models of more bytes than this have one session, and stand in a file.
const LARGE: u64 = 256 << 20;

/// A model as ONNX Runtime takes it.
pub(super) enum ModelSource {
    Bytes(Vec<u8>),
    /// In a folder that goes with this.
    File {
        path: PathBuf,
        _folder: tempfile::TempDir,
    },
}

impl ModelSource {
    pub(super) fn new(model: &Model) -> Result<Self, OrtFailure> {
        if encoded_len(model) <= LARGE {
            return Ok(ModelSource::Bytes(model.proto.encode_to_vec()));
        }
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("model.onnx");
        save(model, &path)?;
        Ok(ModelSource::File {
            path,
            _folder: folder,
        })
    }

    /// A session; `level` says what may be rewritten. Errors: what ONNX Runtime says, in one line.
    pub(super) fn open(
        &self,
        environment: &Environment,
        level: GraphOptimizationLevel,
    ) -> Result<Session, OrtFailure> {
        let made = quiet(|| -> Result<Session, OrtFailure> {
            let mut builder = Session::builder(environment)?;
            builder = builder.with_intra_threads(1)?.with_inter_threads(1)?;
            builder = builder
                .with_deterministic_compute(true)?
                .with_log_level(LogLevel::Fatal)?;
            builder = builder.with_optimization_level(level)?;
            let session = match self {
                ModelSource::Bytes(bytes) => builder.commit_from_memory(bytes),
                ModelSource::File { path, .. } => builder.commit_from_file(path),
            };
            Ok(session?)
        });
        made.map_err(OrtFailure::from)
            .flatten()
            .map_err(OrtFailure::in_short)
    }
}

/// The sessions that are idle.
pub(super) struct SessionPool {
    environment: Environment,
    source: ModelSource,
    level: fn() -> GraphOptimizationLevel,
    idle: Mutex<Vec<Session>>,
}

impl SessionPool {
    /// Opens the first session. Errors: what ONNX Runtime says.
    pub(super) fn new(
        environment: Environment,
        source: ModelSource,
        level: fn() -> GraphOptimizationLevel,
    ) -> Result<Self, OrtFailure> {
        let first = source.open(&environment, level())?;
        Ok(SessionPool {
            environment,
            source,
            level,
            idle: Mutex::new(vec![first]),
        })
    }

    /// A session of the same model with other rewrites.
    pub(super) fn other(&self, level: GraphOptimizationLevel) -> Result<Session, OrtFailure> {
        self.source.open(&self.environment, level)
    }

    /// Lends a session. Errors: one more cannot be opened.
    pub(super) fn lend<T>(&self, work: impl FnOnce(&mut Session) -> T) -> Result<T, OrtFailure> {
        let lock = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let ModelSource::File { .. } = self.source {
            let mut idle = lock();
            let Some(session) = idle.first_mut() else {
                return Err(OrtFailure::SessionGone);
            };
            return Ok(work(session));
        }
        let waiting = lock().pop();
        let mut session = match waiting {
            Some(session) => session,
            None => self.source.open(&self.environment, (self.level)())?,
        };
        let result = work(&mut session);
        lock().push(session);
        Ok(result)
    }
}
