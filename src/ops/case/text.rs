//! A case as one line of text: `Conv@21(2x12x5x5, =8x3x3x3) group=4`.
//!
//! Inputs are written as dims joined by `x` (`()` for a scalar, names for symbols), behind the element type where that is not f32
//! (`i64:3`); `=` before them marks a constant, `[1,2]` behind them what is known of its contents, and `_` an input that is left out.
//! Another domain stands before the operator (`com.microsoft:Gelu@1(2x3)`), further outputs behind all (`outputs=2`).

use std::fmt;
use std::str::FromStr;

use super::{CaseInput, OpCase};
use crate::facts::{Contents, Dim, Element, Fact};
use crate::proto::{Dtype, attribute_proto::AttributeType};

/// Element types and what they are called here.
const TYPES: [(&str, Dtype); 8] = [
    ("f32", Dtype::Float),
    ("f64", Dtype::Double),
    ("f16", Dtype::Float16),
    ("i64", Dtype::Int64),
    ("i32", Dtype::Int32),
    ("i8", Dtype::Int8),
    ("u8", Dtype::Uint8),
    ("bool", Dtype::Bool),
];

impl fmt::Display for OpCase {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if !self.node.domain().is_empty() {
            write!(f, "{}:", self.node.domain())?;
        }
        let inputs: Vec<String> = self.inputs.iter().map(input_text).collect();
        let (op_type, opset) = (self.node.op_type(), self.opset);
        write!(f, "{op_type}@{opset}({})", inputs.join(", "))?;
        for attribute in &self.node.attribute {
            write!(f, " {}=", attribute.name())?;
            match attribute.r#type() {
                AttributeType::Int => write!(f, "{}", attribute.i())?,
                AttributeType::Float => write!(f, "{:?}", attribute.f())?,
                AttributeType::Ints => write!(f, "{:?}", attribute.ints)?,
                AttributeType::String => {
                    write!(f, "{:?}", String::from_utf8_lossy(attribute.s()))?;
                }
                _ => write!(f, "?")?,
            }
        }
        if self.outputs != 1 {
            write!(f, " outputs={}", self.outputs)?;
        }
        Ok(())
    }
}

fn input_text(input: &Option<CaseInput>) -> String {
    let Some(input) = input else {
        return "_".to_owned();
    };
    let (fact, mut text) = (&input.fact, String::new());
    if input.constant {
        text.push('=');
    }
    let name = TYPES
        .iter()
        .find(|(_, dtype)| Some(*dtype) == fact.dtype)
        .map_or("?", |(name, _)| name);
    if name != "f32" {
        text.push_str(&format!("{name}:"));
    }
    let dims = fact.shape.iter().flatten().map(Dim::to_string);
    let dims = dims.collect::<Vec<_>>().join("x");
    text.push_str(if dims.is_empty() { "()" } else { &dims });
    if let Some(contents) = &fact.contents {
        let element = |element: &Element| match element {
            Element::Int(dim) => dim.to_string(),
            Element::Float(number) => format!("{number:?}"),
            Element::Bool(truth) => truth.to_string(),
            Element::Unknown => "?".to_owned(),
        };
        let elements: Vec<String> = contents.0.iter().map(element).collect();
        text.push_str(&format!("[{}]", elements.join(",")));
    }
    text
}

impl FromStr for OpCase {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let wrong = || format!("no case: {line}");
        let (head, rest) = line.split_once('(').ok_or_else(wrong)?;
        let (name, opset) = head.split_once('@').ok_or_else(wrong)?;
        let (domain, op_type) = name.rsplit_once(':').unwrap_or(("", name));
        let mut case = OpCase::op(op_type).at(opset.parse().map_err(|_| wrong())?);
        if !domain.is_empty() {
            case = case.domain(domain);
        }
        let end = closing(rest).ok_or_else(wrong)?;
        let (inputs, attributes) = (&rest[..end], rest[end + 1..].trim());
        for input in split(inputs, ", ").filter(|input| !input.is_empty()) {
            case = case.push(read_input(input).ok_or_else(wrong)?);
        }
        for attribute in split(attributes, " ").filter(|attribute| !attribute.is_empty()) {
            let (name, value) = attribute.split_once('=').ok_or_else(wrong)?;
            case = with_attribute(case, name, value).ok_or_else(wrong)?;
        }
        Ok(case)
    }
}

/// Where the parenthesis that opened before the text closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.char_indices().find_map(|(at, letter)| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        (depth == 0).then_some(at)
    })
}

/// The parts of a text between separators that stand in no brackets and no quotes.
fn split<'a>(text: &'a str, separator: &'a str) -> impl Iterator<Item = &'a str> {
    let (mut parts, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0, false);
    for (at, letter) in text.char_indices() {
        quoted ^= letter == '"';
        depth += i32::from(letter == '[') - i32::from(letter == ']');
        if depth == 0 && !quoted && at >= start && text[at..].starts_with(separator) {
            parts.push(&text[start..at]);
            start = at + separator.len();
        }
    }
    parts.push(&text[start..]);
    parts.into_iter()
}

fn read_input(text: &str) -> Option<Option<CaseInput>> {
    if text == "_" {
        return Some(None);
    }
    let (constant, text) = match text.strip_prefix('=') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (outline, contents) = match text.split_once('[') {
        Some((outline, contents)) => (outline, Some(contents.strip_suffix(']')?)),
        None => (text, None),
    };
    let (name, dims) = outline.split_once(':').unwrap_or(("f32", outline));
    let (_, dtype) = *TYPES.iter().find(|(other, _)| *other == name)?;
    let dims = dims.split('x').filter(|dim| *dim != "()");
    let mut fact = Fact::new(Some(dtype), dims.map(dim).collect());
    if let Some(contents) = contents {
        let elements = contents.split(',').filter(|element| !element.is_empty());
        let elements = elements.map(|element| read_element(element, dtype));
        fact = fact.with_contents(Contents::new(elements.collect::<Option<_>>()?));
    }
    Some(Some(CaseInput { fact, constant }))
}

fn dim(text: &str) -> Dim {
    text.parse().map_or_else(|_| Dim::symbol(text), Dim::Num)
}

fn read_element(text: &str, dtype: Dtype) -> Option<Element> {
    Some(match text {
        "?" => Element::Unknown,
        "true" => Element::Bool(true),
        "false" => Element::Bool(false),
        _ if dtype.is_float() => Element::Float(text.parse().ok()?),
        _ => Element::Int(dim(text)),
    })
}

fn with_attribute(case: OpCase, name: &str, value: &str) -> Option<OpCase> {
    if name == "outputs" {
        return Some(case.outputs(value.parse().ok()?));
    }
    if let Some(text) = value.strip_prefix('"') {
        return Some(case.text(name, text.strip_suffix('"')?));
    }
    if let Some(list) = value.strip_prefix('[') {
        let numbers = list.strip_suffix(']')?.split(", ");
        let numbers = numbers.filter(|number| !number.is_empty());
        let numbers: Option<Vec<i64>> = numbers.map(|number| number.parse().ok()).collect();
        return Some(case.ints(name, &numbers?));
    }
    match value.parse() {
        Ok(number) => Some(case.int(name, number)),
        Err(_) => Some(case.float(name, value.parse().ok()?)),
    }
}
