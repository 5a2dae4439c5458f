//! Tensors of many runs, put away: in memory as far as they fit, the rest in a temporary file.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

use crate::inputs::size;
use crate::model::TensorRef;
use crate::run::Tensors;

/// Tensors run by run, in the order in which they were put there.
#[derive(Debug)]
pub(super) struct Shelf {
    runs: Vec<Run>,
    /// Bytes that may still be held in memory.
    room: usize,
    file: Option<Mutex<File>>,
    /// Where the file ends.
    end: u64,
}

#[derive(Debug)]
enum Run {
    Held(Tensors),
    /// Tensors without their bytes, and where those begin in the file and how many they are.
    Filed(Vec<(String, TensorRef, u64, usize)>),
}

impl Shelf {
    /// An empty one that holds so many bytes in memory.
    pub fn new(room: usize) -> Self {
        Shelf {
            runs: Vec::new(),
            room,
            file: None,
            end: 0,
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Puts away the tensors of the next run. Errors: the temporary file can not be written.
    pub fn put(&mut self, tensors: Tensors) -> Result<()> {
        let bytes = size(tensors.values());
        if self.file.is_none() && bytes <= self.room {
            self.room -= bytes;
            self.runs.push(Run::Held(tensors));
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(Mutex::new(tempfile::tempfile()?)),
        };
        let file = file.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut filed = Vec::with_capacity(tensors.len());
        for (name, mut tensor) in tensors {
            file.seek(SeekFrom::Start(self.end))?;
            file.write_all(&tensor.bytes)?;
            let bytes = std::mem::take(&mut tensor.bytes).len();
            filed.push((name, tensor, self.end, bytes));
            self.end += bytes as u64;
        }
        self.runs.push(Run::Filed(filed));
        Ok(())
    }

    /// The tensors of a run; none where it was not put there. Errors: the temporary file can not be read.
    pub fn get(&self, run: usize) -> Result<Tensors> {
        match (self.runs.get(run), &self.file) {
            (Some(Run::Held(tensors)), _) => Ok(tensors.clone()),
            (Some(Run::Filed(filed)), Some(file)) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let mut read = |(name, tensor, start, length): &(String, TensorRef, u64, usize)| {
                    let mut bytes = vec![0; *length];
                    file.seek(SeekFrom::Start(*start))?;
                    file.read_exact(&mut bytes)?;
                    Ok((
                        name.clone(),
                        TensorRef {
                            bytes: bytes.into(),
                            ..tensor.clone()
                        },
                    ))
                };
                filed.iter().map(&mut read).collect()
            }
            _ => Ok(Tensors::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_memory_does_not_hold_comes_back_from_the_file() {
        let run = |number: usize| {
            let tensor =
                |extent: usize| TensorRef::from_f32(vec![1, extent], &vec![number as f32; extent]);
            Tensors::from_iter([
                ("a".to_owned(), tensor(2)),
                ("b".to_owned(), tensor(number)),
            ])
        };
        let mut shelf = Shelf::new(30);
        (0..5).for_each(|number| shelf.put(run(number)).unwrap());
        assert!(shelf.file.is_some() && shelf.room < 30, "some of each kind");
        for number in [4, 0, 2, 1, 3] {
            assert_eq!(shelf.get(number).unwrap(), run(number));
        }
        assert!(shelf.get(5).unwrap().is_empty());
    }
}
