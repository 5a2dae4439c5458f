//! What the calls of a model's own functions become, counted before it is made.

use std::collections::HashMap;

use super::error::InlineError;
use crate::model::normal_domain;
use crate::proto::{FunctionProto, GraphProto, NodeProto};

/// Nodes that all calls together may become.
const MOST: u64 = 1 << 20;

/// The functions of a model by what calls name them by.
pub(super) struct CallTable<'a> {
    functions: &'a [FunctionProto],
    numbers: HashMap<(&'a str, &'a str, &'a str), usize>,
    /// Nodes that a call becomes; `None` for a function that calls itself.
    sizes: Vec<Option<u64>>,
}

impl<'a> CallTable<'a> {
    pub(super) fn new(functions: &'a [FunctionProto]) -> Self {
        let mut numbers = HashMap::new();
        for (number, function) in functions.iter().enumerate() {
            numbers
                .entry((
                    normal_domain(function.domain()),
                    function.name(),
                    function.overload(),
                ))
                .or_insert(number);
        }
        let mut table = CallTable {
            functions,
            numbers,
            sizes: vec![None; functions.len()],
        };
        table.measure();
        table
    }

    fn called(&self, node: &NodeProto) -> Option<usize> {
        self.numbers
            .get(&(
                normal_domain(node.domain()),
                node.op_type(),
                node.overload(),
            ))
            .copied()
    }

    /// Sizes of all functions, those first that call none that is not measured.
    fn measure(&mut self) {
        let count = self.functions.len();
        let mut own = vec![0u64; count];
        let mut calls: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut callers: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (number, function) in self.functions.iter().enumerate() {
            // An output that is an input needs a node of its own.
            own[number] = function.output.len() as u64;
            each_node(&function.node, &mut |node| match self.called(node) {
                Some(called) => calls[number].push(called),
                None => own[number] += 1,
            });
            calls[number]
                .iter()
                .for_each(|called| callers[*called].push(number));
        }
        let mut waiting: Vec<usize> = calls.iter().map(Vec::len).collect();
        let mut ready: Vec<usize> = (0..count).filter(|number| waiting[*number] == 0).collect();
        while let Some(number) = ready.pop() {
            let called = calls[number]
                .iter()
                .filter_map(|called| self.sizes[*called]);
            self.sizes[number] = Some(called.fold(own[number], u64::saturating_add));
            for caller in &callers[number] {
                waiting[*caller] -= 1;
                if waiting[*caller] == 0 {
                    ready.push(*caller);
                }
            }
        }
    }

    /// Errors: what the calls of a graph become is too much, or without end.
    pub(super) fn check(&self, graph: &GraphProto) -> Result<(), InlineError> {
        let (mut total, mut endless) = (0u64, None);
        each_node(
            &graph.node,
            &mut |node| match self.called(node).map(|called| self.sizes[called]) {
                Some(None) => endless = endless.take().or_else(|| Some(node.op_type().to_owned())),
                Some(Some(size)) => total = total.saturating_add(size),
                None => {}
            },
        );
        match endless {
            Some(name) => Err(InlineError::CallsItself(name)),
            None if total > MOST => Err(InlineError::TooMany {
                nodes: total,
                most: MOST,
            }),
            None => Ok(()),
        }
    }
}

/// Visits nodes and those of their subgraphs.
fn each_node(nodes: &[NodeProto], visit: &mut dyn FnMut(&NodeProto)) {
    for node in nodes {
        visit(node);
        for graph in node
            .attribute
            .iter()
            .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
        {
            each_node(&graph.node, visit);
        }
    }
}
