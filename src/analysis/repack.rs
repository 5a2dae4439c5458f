//! Numbers of a few bits in bytes, packed anew when some of them go.

use super::demand::Operands;
use super::packed_rows::Repack;
use crate::facts::{Dim, Fact};
use crate::model::{Model, NodeId, TensorRef, ValueId};
use crate::proto::Dtype;

impl Operands {
    /// Packs the numbers at these places of every row of an input anew, in a copy where others read it too. False if it is no
    /// constant of bytes.
    pub(super) fn repack(
        &mut self,
        model: &mut Model,
        node: NodeId,
        input: u32,
        value: ValueId,
        row: &Repack,
    ) -> bool {
        let Some(proto) = model.tensor_proto(value) else {
            return false;
        };
        let Some(tensor) = TensorRef::from_proto(proto)
            .ok()
            .and_then(|tensor| row.of(&tensor))
        else {
            // Trials shrink dims without cutting bytes; that the constant exists is all they need to know.
            return proto.raw_data.is_none() && proto.data_type() == Dtype::Uint8.code();
        };
        let entry = model.index().value(value);
        let shape = tensor.dims.iter().map(|dim| Dim::from(*dim)).collect();
        if entry.readers.len() == 1 && !entry.is_output {
            let name = entry.name.clone();
            if let Some(target) = model.tensor_proto_mut(value) {
                *target = tensor.to_proto(&name);
            }
            self.replaced
                .insert((node, input), Fact::new(Some(tensor.dtype), shape));
            return true;
        }
        let (graph, base) = (entry.graph, entry.name.clone());
        let same = self
            .repacked
            .iter()
            .find(|(from, other, _)| *from == value && other == row);
        let name = match same.map(|(.., name)| name.clone()) {
            Some(name) => name,
            None => self.initializer(model, graph, &base, &tensor).0,
        };
        self.repacked.push((value, row.clone(), name.clone()));
        model.node_mut(node).input[input as usize] = name;
        self.replaced
            .insert((node, input), Fact::new(Some(tensor.dtype), shape));
        true
    }
}
