//! Relations as people read them: `x[b, g·i, s] w[g·o, i, k] → y[b, g·o, t]  Σ i,k`.

use std::fmt;

use super::{Layout, Port, Relation, Segment};

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::In(at) => write!(f, "input {at}"),
            Port::Out(at) => write!(f, "output {at}"),
            Port::Formal(branch, at) => write!(f, "input {at} of subgraph {branch}"),
            Port::Result(branch, at) => write!(f, "output {at} of subgraph {branch}"),
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut arrow = false;
        for (position, (port, layout)) in self.ports.iter().enumerate() {
            if matches!(port, Port::Out(_)) && !arrow {
                arrow = true;
                f.write_str(if position > 0 { " → " } else { "→ " })?;
            } else if position > 0 {
                f.write_str(" ")?;
            }
            let axes: Vec<String> = layout.axes.iter().map(|axis| self.show(axis)).collect();
            write!(f, "{}[{}]", layout.name, axes.join(", "))?;
        }
        for (position, term) in self
            .terms
            .iter()
            .filter(|term| !term.summed.is_empty())
            .enumerate()
        {
            let names: Vec<_> = term
                .summed
                .iter()
                .map(|label| self.name(label.index()))
                .collect();
            write!(
                f,
                "{}Σ {}",
                if position == 0 { "  " } else { "; " },
                names.join(",")
            )?;
        }
        Ok(())
    }
}

impl Relation {
    fn name(&self, label: usize) -> String {
        let label = &self.labels[label];
        if label.name.is_empty() {
            label.extent.to_string()
        } else {
            label.name.to_string()
        }
    }

    pub(super) fn show(&self, axis: &Layout) -> String {
        let segments: Vec<String> = axis
            .0
            .iter()
            .map(|segment| match segment {
                Segment::Product(labels) if labels.is_empty() => "1".to_owned(),
                Segment::Product(labels) => labels
                    .iter()
                    .map(|label| self.name(label.index()))
                    .collect::<Vec<_>>()
                    .join("·"),
                Segment::Pick(label, indices) => {
                    let name = self.name(label.index());
                    match indices[..] {
                        [] => "0".to_owned(),
                        [first] => format!("{name}{{{first}}}"),
                        [first, .., last]
                            if indices.windows(2).all(|pair| pair[1] == pair[0] + 1) =>
                        {
                            format!("{name}{{{first}..{}}}", last + 1)
                        }
                        [first, second, ..] => format!("{name}{{{first},{second}..}}"),
                    }
                }
            })
            .collect();
        if segments.is_empty() {
            "1".to_owned()
        } else {
            segments.join("+")
        }
    }
}
