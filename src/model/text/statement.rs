//! Nodes and functions written as text, in the form of this project's tests and in ONNX's own.

use super::constant::constant;
use super::error::TextError;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};

/// Reads a function in ONNX's text syntax:
///
/// ```text
/// com.example.Scaled <alpha: float = 1.0> (x, w) => (y) {
///     s = Constant <value_float = @alpha> ()
///     p = MatMul (x, w)     # a comment
///     y = Mul (p, s)
/// }
/// ```
///
/// An attribute's value `@NAME` is that of the call. Errors say what is missing.
pub fn function(text: &str) -> Result<FunctionProto, TextError> {
    let text: Vec<&str> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""))
        .collect();
    let text = text.join("\n");
    let open = text.find(['<', '(']).ok_or(TextError::NoBracket('('))?;
    let (head, rest) = text.split_at(open);
    let (domain, name) = operator(head);
    let (attributes, rest) = bracketed(rest, '<', '>')?;
    let (inputs, rest) = bracketed(rest, '(', ')')?;
    let rest = rest
        .trim_start()
        .strip_prefix("=>")
        .ok_or(TextError::Missing("'=>'"))?;
    let (outputs, rest) = bracketed(rest, '(', ')')?;
    let (body, _) = bracketed(rest, '{', '}')?;
    let mut function = FunctionProto {
        name: Some(name.into()),
        domain: Some(domain.into()),
        input: names(inputs.ok_or(TextError::Missing("inputs"))?),
        output: names(outputs.ok_or(TextError::Missing("outputs"))?),
        ..Default::default()
    };
    for part in outside_brackets(attributes.unwrap_or("")) {
        match part.split_once('=') {
            Some((declared, value)) => {
                let name = declared.split(':').next().unwrap_or("").trim();
                let default = attribute(name, value.trim())?;
                function.attribute_proto.push(default);
            }
            None => {
                let name = part.split(':').next().unwrap_or("").trim();
                function.attribute.push(name.to_owned());
            }
        }
    }
    let mut left = body.ok_or(TextError::Missing("body"))?.trim();
    while !left.is_empty() {
        let (mut node, behind) = statement(left)?;
        node.attribute.iter_mut().for_each(refer);
        function.node.push(node);
        left = behind.trim();
    }
    Ok(function)
}

/// Turns `@NAME`, which stands for a graph in models, into a reference to the call's attribute.
fn refer(attribute: &mut AttributeProto) {
    if let Some(graph) = attribute.g.take() {
        attribute.ref_attr_name = graph.name;
        attribute.r#type = None;
    }
}

/// Reads one node; nothing may stand behind it.
pub(super) fn node(line: &str) -> Result<NodeProto, TextError> {
    match statement(line)? {
        (node, rest) if rest.trim().is_empty() => Ok(node),
        _ => Err(TextError::Behind),
    }
}

/// Reads the node at the head of a text; returns what is left behind it.
fn statement(text: &str) -> Result<(NodeProto, &str), TextError> {
    let (outputs, call) = text.split_once('=').ok_or(TextError::NoNode)?;
    let open = call.find(['<', '(']).ok_or(TextError::NoBracket('('))?;
    let (head, rest) = call.split_at(open);
    let (domain, op_type) = operator(head);
    let (before, rest) = bracketed(rest, '<', '>')?;
    let (inputs, rest) = bracketed(rest, '(', ')')?;
    let (behind, rest) = bracketed(rest, '{', '}')?;
    let output = names(outputs);
    let mut node = NodeProto {
        name: output.iter().find(|name| !name.is_empty()).cloned(),
        op_type: Some(op_type.into()),
        domain: (!domain.is_empty()).then(|| domain.to_owned()),
        input: names(inputs.ok_or(TextError::NoBracket('('))?),
        output,
        ..Default::default()
    };
    for part in [before, behind]
        .into_iter()
        .flatten()
        .flat_map(outside_brackets)
    {
        let (name, value) = part.split_once('=').ok_or(TextError::Attribute)?;
        let name = name.split(':').next().unwrap_or("").trim();
        node.attribute.push(attribute(name, value.trim())?);
    }
    Ok((node, rest))
}

/// Domain and name of an operator.
fn operator(text: &str) -> (&str, &str) {
    text.trim().rsplit_once('.').unwrap_or(("", text.trim()))
}

/// Splits off what stands in a pair of brackets at the head of a text; `None` where none stands there.
fn bracketed(text: &str, open: char, close: char) -> Result<(Option<&str>, &str), TextError> {
    let Some(inner) = text.trim_start().strip_prefix(open) else {
        return Ok((None, text));
    };
    let (mut quoted, mut depth) = (false, 0u32);
    for (at, letter) in inner.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            _ if quoted => {}
            _ if letter == open => depth += 1,
            _ if letter == close && depth > 0 => depth -= 1,
            _ if letter == close => {
                return Ok((Some(&inner[..at]), &inner[at + close.len_utf8()..]));
            }
            _ => {}
        }
    }
    Err(TextError::NoBracket(close))
}

fn names(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',')
        .map(|name| {
            if name.trim() == "_" {
                String::new()
            } else {
                name.trim().to_owned()
            }
        })
        .collect()
}

/// Splits at commas that stand in no brackets and no quotes.
fn outside_brackets(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut quoted, mut start) = (Vec::new(), 0i32, false, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '[' if !quoted => depth += 1,
            ']' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
        .into_iter()
        .filter(|part| !part.trim().is_empty())
        .collect()
}

fn attribute(name: &str, text: &str) -> Result<AttributeProto, TextError> {
    let mut attribute = AttributeProto {
        name: Some(name.into()),
        ..Default::default()
    };
    let kind = if let Some(graph) = text.strip_prefix('@') {
        attribute.g = Some(GraphProto {
            name: Some(graph.into()),
            ..Default::default()
        });
        AttributeType::Graph
    } else if let Some(quoted) = text.strip_prefix('"') {
        attribute.s = Some(quoted.trim_end_matches('"').as_bytes().to_vec().into());
        AttributeType::String
    } else if let Some(list) = text
        .strip_prefix('[')
        .and_then(|list| list.strip_suffix(']'))
    {
        let items: Vec<&str> = list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect();
        let ints: Result<Vec<i64>, _> = items.iter().map(|item| item.parse::<i64>()).collect();
        if let Ok(ints) = ints {
            attribute.ints = ints;
            AttributeType::Ints
        } else {
            attribute.floats = items
                .iter()
                .map(|item| {
                    item.parse()
                        .map_err(|_| TextError::NoNumber((*item).to_owned()))
                })
                .collect::<Result<_, _>>()?;
            AttributeType::Floats
        }
    } else if let Ok(int) = text.parse() {
        attribute.i = Some(int);
        AttributeType::Int
    } else if text.contains('[') {
        // A tensor: `value=i64[2] = …` would clash with the commas, so only one number fills it.
        let (kind, fill) = text.split_once(':').unwrap_or((text, ""));
        attribute.t = Some(constant(&format!("{name} {kind} = {fill}"))?);
        AttributeType::Tensor
    } else {
        attribute.f = Some(
            text.parse()
                .map_err(|_| TextError::NoValue(text.to_owned()))?,
        );
        AttributeType::Float
    };
    attribute.r#type = Some(kind as i32);
    Ok(attribute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::edit::NodeExt;

    #[test]
    fn a_function_in_the_standards_own_text() {
        let function = function(
            r#"com.example.Scaled <axis, alpha: float = 0.5> (x, w) => (y, _) {
                s = Constant <value_float: float = @alpha> ()  # of the call
                p = Conv <pads = [1, 1], auto_pad = "a > b"> (x, w, _)
                y = Mul(p, s)
                _, i = TopK (y) {axis=@axis}
            }"#,
        )
        .unwrap();
        assert_eq!(
            (function.domain(), function.name()),
            ("com.example", "Scaled")
        );
        assert_eq!(function.input, ["x", "w"]);
        assert_eq!(function.attribute, ["axis"]);
        assert_eq!(function.attribute_proto[0].f(), 0.5);
        let [s, p, y, i] = function.node.as_slice() else {
            panic!("{} nodes", function.node.len());
        };
        assert_eq!(s.attribute[0].ref_attr_name(), "alpha");
        assert_eq!(p.ints("pads"), Some(&[1, 1][..]));
        assert_eq!(p.string("auto_pad"), Some("a > b"));
        assert_eq!(p.input, ["x", "w", ""]);
        assert_eq!((y.op_type(), i.output(1)), ("Mul", Some("i")));
        assert_eq!(i.attribute[0].ref_attr_name(), "axis");
    }

    #[test]
    fn what_is_no_function_says_why() {
        for (text, problem) in [
            ("F", "no '('"),
            ("F (x", "no ')'"),
            ("F (x) => (y)", "no body"),
            ("F (x) => (y) { y = Relu }", "no '('"),
        ] {
            assert_eq!(function(text).unwrap_err().to_string(), problem, "{text}");
        }
    }
}
