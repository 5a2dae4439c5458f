//! Calls of the model's own functions become the functions' nodes.

use std::collections::{BTreeMap, HashSet};

use super::calls::CallTable;
use super::error::InlineError;
use crate::model::edit::NodeExt;
use crate::model::{LoadError, Model, Names, bind, normal_domain, rename};
use crate::ops::{holds_tensor, make};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Makes names that are not taken yet, from a hint.
type Fresh<'a> = &'a mut dyn FnMut(&str) -> String;

/// Names of what came out of functions → `FUNCTION/NAME` in the file.
pub type Named = BTreeMap<String, String>;

/// The model with all calls of its own functions inlined, and where its new names come from; `None` where it has no
/// functions, or such as cannot be inlined. A constant of a function stays one, however often the function is called.
/// Errors: the inlined graph is not valid (never expected).
pub fn inlined(model: &Model) -> Result<Option<(Model, Named)>, LoadError> {
    if model.proto.functions.is_empty() {
        return Ok(None);
    }
    let mut names = Names::of(model);
    let mut inlined = model.clone();
    let Ok(named) = inline(&mut inlined.proto, &mut |hint| names.fresh(hint)) else {
        return Ok(None);
    };
    inlined.reindex()?;
    Ok(Some((inlined, named)))
}

/// Why the calls of a model's own functions have no end, or none that can be reached; `None` where they have.
pub fn endless(model: &Model) -> Option<InlineError> {
    let graph = model
        .proto
        .graph
        .as_ref()
        .filter(|_| !model.proto.functions.is_empty())?;
    CallTable::new(&model.proto.functions).check(graph).err()
}

/// Inlines all calls, nested ones too. Errors: a recursive function, or one written for other operator versions than the model.
pub fn inline(proto: &mut ModelProto, fresh: Fresh) -> Result<Named, InlineError> {
    let functions = std::mem::take(&mut proto.functions);
    if functions.is_empty() {
        return Ok(Named::new());
    }
    for function in &functions {
        same_versions(proto, function)?;
    }
    let mut graph = proto.graph.take().unwrap_or_default();
    // What comes of it is counted first.
    CallTable::new(&functions).check(&graph)?;
    let mut inliner = Inliner {
        functions: &functions,
        fresh,
        named: Named::new(),
        lifted: BTreeMap::new(),
        constants: Vec::new(),
    };
    for _ in 0..=functions.len() {
        if !inliner.in_all_graphs(&mut graph) {
            graph.initializer.append(&mut inliner.constants);
            let named = inliner.named;
            proto.graph = Some(graph);
            return Ok(named);
        }
    }
    Err(InlineError::Endless)
}

fn same_versions(model: &mut ModelProto, function: &FunctionProto) -> Result<(), InlineError> {
    for import in &function.opset_import {
        let domain = normal_domain(import.domain());
        match model
            .opset_import
            .iter()
            .find(|other| normal_domain(other.domain()) == domain)
        {
            Some(other) if other.version() != import.version() && domain.is_empty() => {
                return Err(InlineError::OtherVersion {
                    function: function.name().to_owned(),
                    version: import.version(),
                });
            }
            Some(_) => {}
            None => model.opset_import.push(import.clone()),
        }
    }
    Ok(())
}

/// What all calls share.
struct Inliner<'a, 'f> {
    functions: &'a [FunctionProto],
    fresh: Fresh<'f>,
    named: Named,
    /// Constants of functions by their name in the file, and their name as initializers of the main graph.
    lifted: BTreeMap<String, String>,
    constants: Vec<TensorProto>,
}

impl Inliner<'_, '_> {
    fn in_all_graphs(&mut self, graph: &mut GraphProto) -> bool {
        let mut changed = false;
        for subgraph in graph.node.iter_mut().flat_map(NodeExt::subgraphs_mut) {
            changed |= self.in_all_graphs(subgraph);
        }
        self.in_graph(graph) | changed
    }

    fn in_graph(&mut self, graph: &mut GraphProto) -> bool {
        let functions = self.functions;
        let called = |node: &NodeProto| {
            let (domain, op) = (normal_domain(node.domain()), node.op_type());
            let same = |function: &&FunctionProto| {
                function.name() == op
                    && normal_domain(function.domain()) == domain
                    && function.overload() == node.overload()
            };
            functions.iter().find(same)
        };
        if !graph.node.iter().any(|node| called(node).is_some()) {
            return false;
        }
        let (mut once, mut twice) = (HashSet::new(), HashSet::new());
        for node in &graph.node {
            if !once.insert(node.name().to_owned()) {
                twice.insert(node.name().to_owned());
            }
        }
        let mut nodes = Vec::with_capacity(graph.node.len());
        for node in std::mem::take(&mut graph.node) {
            match called(&node) {
                // By its output where others are called alike.
                Some(function) => {
                    let by_output = node.name().is_empty() || twice.contains(node.name());
                    let scope = if by_output {
                        first_output(&node)
                    } else {
                        node.name()
                    };
                    nodes.extend(self.body(&node, scope, function));
                }
                None => nodes.push(node),
            }
        }
        graph.node = nodes;
        true
    }

    /// A function's nodes with the names and attributes of one call.
    fn body(&mut self, call: &NodeProto, scope: &str, function: &FunctionProto) -> Vec<NodeProto> {
        let mut names = BTreeMap::new();
        for (at, formal) in function.input.iter().enumerate() {
            names.insert(
                formal.clone(),
                call.input.get(at).cloned().unwrap_or_default(),
            );
        }
        let prefix = self.prefix(function);
        let mut nodes = function.node.clone();
        nodes.retain(|node| !self.lift(node, &prefix, &mut names));
        let aliases = name_results(call, function, &mut names);
        let mut attributes: BTreeMap<&str, &AttributeProto> = function
            .attribute_proto
            .iter()
            .map(|attribute| (attribute.name(), attribute))
            .collect();
        attributes.extend(
            call.attribute
                .iter()
                .map(|attribute| (attribute.name(), attribute)),
        );
        for node in &mut nodes {
            let written = node.clone();
            bind(node, &attributes);
            rename(node, &mut names, &mut |name| {
                (self.fresh)(&format!("{scope}/{name}"))
            });
            let label = if node.name().is_empty() {
                first_output(&written)
            } else {
                node.name()
            };
            node.name = Some(format!("{scope}/{label}"));
            note(&mut self.named, &written, node, &prefix, &call.output);
        }
        for (formal, actual) in aliases {
            let source = names.get(&formal).cloned().unwrap_or_default();
            let mut alias = make::alias(&source, &actual);
            alias.name = Some((self.fresh)(alias.op_type()));
            nodes.push(alias);
        }
        nodes
    }

    /// What plans prefix names in a function by: the function's name, with its domain before it only where another function
    /// is called so, too.
    fn prefix(&self, function: &FunctionProto) -> String {
        let alone = self
            .functions
            .iter()
            .filter(|other| other.name() == function.name())
            .count()
            == 1;
        if alone {
            format!("{}/", function.name())
        } else {
            format!("{}.{}/", function.domain(), function.name())
        }
    }

    /// Makes a constant of a function one of the main graph, for all calls. False for other nodes.
    fn lift(
        &mut self,
        node: &NodeProto,
        prefix: &str,
        names: &mut BTreeMap<String, String>,
    ) -> bool {
        let constant = holds_tensor(node);
        let value = node
            .attribute
            .iter()
            .find(|attribute| attribute.name() == "value" && attribute.ref_attr_name().is_empty());
        let (Some(tensor), Some(output)) = (
            value
                .filter(|_| constant)
                .and_then(|value| value.t.as_ref()),
            node.output.first(),
        ) else {
            return false;
        };
        let in_file = format!("{prefix}{output}");
        let name = match self.lifted.get(&in_file) {
            Some(name) => name.clone(),
            None => {
                let name = (self.fresh)(&in_file);
                self.constants.push(TensorProto {
                    name: Some(name.clone()),
                    ..tensor.clone()
                });
                self.named.insert(name.clone(), in_file.clone());
                self.lifted.insert(in_file, name.clone());
                name
            }
        };
        names.insert(output.clone(), name);
        true
    }
}

/// Gives a function's results the names that the call has for them. Those that are an input or a constant handed through, or
/// that are given twice, need a node of their own: their names in the function and in the call.
fn name_results(
    call: &NodeProto,
    function: &FunctionProto,
    names: &mut BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let mut aliases = Vec::new();
    for (at, formal) in function.output.iter().enumerate() {
        let Some(actual) = call.output.get(at).filter(|name| !name.is_empty()) else {
            continue;
        };
        if names.contains_key(formal) {
            aliases.push((formal.clone(), actual.clone()));
        } else {
            names.insert(formal.clone(), actual.clone());
        }
    }
    aliases
}

/// Notes what a node's results, and the names in its subgraphs, were called in the function. Results of the call have
/// their name from around it.
fn note(
    named: &mut Named,
    written: &NodeProto,
    node: &NodeProto,
    prefix: &str,
    results: &[String],
) {
    for (old, new) in written
        .output
        .iter()
        .zip(&node.output)
        .filter(|(_, new)| !results.contains(new))
    {
        named.insert(new.clone(), format!("{prefix}{old}"));
    }
    let label = if written.name().is_empty() {
        first_output(written)
    } else {
        written.name()
    };
    for attribute in &written.attribute {
        let Some(now) = node
            .attribute
            .iter()
            .find(|other| other.name() == attribute.name())
        else {
            continue;
        };
        let prefix = format!("{prefix}{label}/{}/", attribute.name());
        for (old, new) in attribute
            .g
            .iter()
            .chain(&attribute.graphs)
            .zip(now.g.iter().chain(&now.graphs))
        {
            for (old, new) in old.initializer.iter().zip(&new.initializer) {
                named.insert(new.name().to_owned(), format!("{prefix}{}", old.name()));
            }
            old.node
                .iter()
                .zip(&new.node)
                .for_each(|(old, new)| note(named, old, new, &prefix, &[]));
        }
    }
}

fn first_output(node: &NodeProto) -> &str {
    node.output
        .iter()
        .find(|name| !name.is_empty())
        .map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::text;
    use crate::proto::OperatorSetIdProto;

    fn node(op: &str, input: &str, output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(op.into()),
            input: vec![input.into()],
            output: vec![output.into()],
            ..Default::default()
        }
    }

    fn function(name: &str, bodies: &[&str]) -> FunctionProto {
        let between = |at: usize| {
            if at == 0 {
                "x".to_owned()
            } else if at == bodies.len() {
                "y".to_owned()
            } else {
                format!("h{at}")
            }
        };
        let nodes = bodies
            .iter()
            .enumerate()
            .map(|(at, op)| node(op, &between(at), &between(at + 1)));
        FunctionProto {
            name: Some(name.into()),
            input: vec!["x".into()],
            output: vec!["y".into()],
            node: nodes.collect(),
            ..Default::default()
        }
    }

    fn calling(functions: Vec<FunctionProto>, calls: usize, op: &str) -> Model {
        let mut model = text::model("input x f32[2]\ny = Relu(x)\noutput y").unwrap();
        model.proto.functions = functions;
        let name = |at: usize| {
            if at == 0 {
                "x".to_owned()
            } else if at == calls {
                "y".to_owned()
            } else {
                format!("v{at}")
            }
        };
        let nodes = (0..calls).map(|at| NodeProto {
            name: Some("same".into()),
            ..node(op, &name(at), &name(at + 1))
        });
        model.proto.graph.as_mut().unwrap().node = nodes.collect();
        model.reindex().unwrap();
        model
    }

    #[test]
    fn a_function_that_calls_itself_is_left_alone() {
        for functions in [
            vec![function("f", &["f", "f"])],
            vec![function("f", &["Relu", "g"]), function("g", &["f"])],
        ] {
            let mut model = calling(functions, 1, "f");
            assert!(inlined(&model).unwrap().is_none());
            let problem = inline(&mut model.proto, &mut |hint| hint.to_owned()).unwrap_err();
            assert!(
                problem
                    .to_string()
                    .contains("'f' of the model calls itself"),
                "{problem}"
            );
        }
        // One that nobody calls does no harm.
        let model = calling(
            vec![function("f", &["f"]), function("g", &["Relu"])],
            1,
            "g",
        );
        assert_eq!(inlined(&model).unwrap().unwrap().0.index().nodes().len(), 1);
    }

    #[test]
    fn what_calls_become_is_counted_first() {
        let next = |at: usize| format!("f{}", at + 1);
        let mut functions: Vec<FunctionProto> = (0..9)
            .map(|at| function(&format!("f{at}"), &[next(at).as_str(); 10]))
            .collect();
        functions.push(function("f9", &["Relu"]));
        let mut model = calling(functions, 1, "f0");
        assert!(inlined(&model).unwrap().is_none());
        let problem = inline(&mut model.proto, &mut |hint| hint.to_owned()).unwrap_err();
        assert!(
            problem.to_string().contains("would become") && problem.to_string().contains("nodes"),
            "{problem}"
        );
        // A deep chain is as good as a flat one.
        let mut functions: Vec<FunctionProto> = (0..200)
            .map(|at| function(&format!("f{at}"), &["Relu", next(at).as_str()]))
            .collect();
        functions.push(function("f200", &["Relu"]));
        assert_eq!(
            inlined(&calling(functions, 2, "f0"))
                .unwrap()
                .unwrap()
                .0
                .index()
                .nodes()
                .len(),
            2 * 201
        );
    }

    #[test]
    fn many_calls_of_one_name_take_their_time_once_each() {
        let mut model = calling(vec![function("f", &["Relu", "Neg", "Abs"])], 20_000, "f");
        model.proto.opset_import.push(OperatorSetIdProto {
            domain: Some("own".into()),
            version: Some(1),
        });
        let start = std::time::Instant::now();
        assert_eq!(
            inlined(&model).unwrap().unwrap().0.index().nodes().len(),
            60_000
        );
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
