//! Names that nothing in a model has.

use std::collections::{HashMap, HashSet};

use super::Model;

/// The names that are taken, and how far the numbers behind each are.
#[derive(Clone, Debug, Default)]
pub struct Names {
    taken: HashSet<String>,
    /// By what stands before the number: the first that was not tried.
    next: HashMap<String, u64>,
}

impl Names {
    /// The names of all values of a model.
    pub fn of(model: &Model) -> Self {
        Names {
            taken: model
                .index()
                .values()
                .map(|(_, entry)| entry.name.clone())
                .collect(),
            next: HashMap::new(),
        }
    }

    /// Takes names that are no values', such as those of nodes.
    pub fn reserve<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.taken.extend(names.into_iter().map(str::to_owned));
    }

    /// The name itself if it is free, else with the first number from 2 on, `NAME_2`. It is taken from now on.
    pub fn fresh(&mut self, name: &str) -> String {
        if self.taken.insert(name.to_owned()) {
            name.to_owned()
        } else {
            self.numbered(&format!("{name}_"), 2)
        }
    }

    /// What is given with the first number, from `first` on, that makes it a free name. It is taken from now on.
    pub fn numbered(&mut self, stem: &str, first: u64) -> String {
        let next = self.next.entry(stem.to_owned()).or_insert(first);
        loop {
            let name = format!("{stem}{next}");
            *next += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}
