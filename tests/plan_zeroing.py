"""What a plan file names, found in the original model and set to zero: other code than the tool's.

`zeroed(model, plan)` gives a copy of the model in which every slice that the plan removes is zero, for the reader that an
entry names or for all. Where a number that is not 0 means zero (quantized weights), it is that number. Functions get a copy
for each call, so that a reader in one call can be told from the same node in another.
"""

import copy

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

# Where an operator reads a quantized tensor, and its zero point: there the zero point, not 0, means zero.
QUANTIZED_INPUTS = {
    "DequantizeLinear": [(0, 2)],
    "MatMulInteger": [(0, 2), (1, 3)],
    "ConvInteger": [(0, 2), (1, 3)],
    "QLinearMatMul": [(0, 2), (3, 5)],
    "QLinearConv": [(0, 2), (3, 5)],
    "QGemm": [(0, 2), (3, 5)],
    "DynamicQuantizeMatMul": [(1, 3)],
    "MatMulIntegerToFloat": [(0, 4), (1, 5)],
    "DynamicQuantizeLSTM": [(1, 9), (2, 11)],
    "QAttention": [(1, 7)],
}
# Quantized values pass through these unchanged on their way to where they are read.
MOVES = {"Gather", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Identity"}
# Operands that stay as they are: divisors, for which zero would make NaN, and quantization parameters,
# which say what the quantized zero is. Whoever reads the result of these slices is zeroed too.
UNTOUCHED_INPUTS = {
    "Div": [1],
    "QuantizeLinear": [1, 2],
    "DequantizeLinear": [1, 2],
    "MatMulInteger": [2, 3],
    "ConvInteger": [2, 3],
    "QLinearMatMul": [1, 2, 4, 5, 6, 7],
    "QLinearConv": [1, 2, 4, 5, 6, 7],
    "QGemm": [1, 2, 4, 5, 7, 8],
    "DynamicQuantizeMatMul": [2, 3],
    "MatMulIntegerToFloat": [2, 3, 4, 5],
    "DynamicQuantizeLSTM": [8, 9, 10, 11],
    "QAttention": [3, 4, 6, 7],
    # Nibbles are packed two a byte: zeroing the scale of their block is enough.
    "MatMulNBits": [1, 3],
}


class Unknown(Exception):
    """A plan that names what the original lacks."""


class Scope:
    """A graph, a subgraph or a call of a function: its nodes, and how plans prefix what stands in it."""

    def __init__(self, values, readers, holder, outer):
        self.values, self.readers, self.holder, self.outer = values, readers, holder, outer
        self.nodes = holder.node
        self.initializers = getattr(holder, "initializer", ())

    def label(self, node):
        """How plans call a node: by its name if no other has it, else by its first output's."""
        alone = sum(other.name == node.name for other in self.nodes) == 1
        return node.name if node.name and alone else next(filter(None, node.output), "")

    def give(self, tensor):
        """Makes a tensor known here and in all graphs inside."""
        top = self
        while top.outer is not None:
            top = top.outer
        if isinstance(top.holder, onnx.FunctionProto):
            top.holder.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
        else:
            top.holder.initializer.append(tensor)


def label(node):
    return node.name or next(filter(None, node.output), "")


def subgraphs(node):
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield attribute.name, graph


def scopes(model):
    """All scopes of the model; functions as they are written, which no reader can be told apart in."""
    yield from inside(Scope("", "", model.graph, None))
    for function in model.functions:
        yield from inside(Scope(f"{function_name(model, function)}/", None, function, None))


def inside(scope):
    yield scope
    for node in scope.nodes:
        for attribute, graph in subgraphs(node):
            # A list, for the graph is a message of its own.
            prefix = f"{label(node)}/{attribute}/"
            readers = None if scope.readers is None else scope.readers + prefix
            yield from inside(Scope(scope.values + prefix, readers, graph, scope))


def function_name(model, function):
    """Its name; with its domain where another has the same."""
    alone = sum(other.name == function.name for other in model.functions) == 1
    return function.name if alone else f"{function.domain}.{function.name}"


def apart(model):
    """A copy of the model in which every call has a function of its own, and the scopes of all of them."""
    model = copy.deepcopy(model)
    written = {(f.domain, f.name, f.overload): (function_name(model, f), f) for f in copy.deepcopy(model.functions)}
    del model.functions[:]
    found = []

    def visit(scope):
        for part in inside(scope):
            found.append(part)
            for node in part.nodes:
                if (node.domain, node.op_type, node.overload) not in written:
                    continue
                name, function = written[node.domain, node.op_type, node.overload]
                own = model.functions.add()
                own.CopyFrom(function)
                own.name = f"{function.name}__{len(model.functions)}"
                readers = f"{part.readers}{part.label(node)}/"
                node.op_type = own.name
                visit(Scope(f"{name}/", readers, own, None))

    visit(Scope("", "", model.graph, None))
    return model, found


def tensors_of(scope):
    """(name, message) of the initializers and Constant tensors of one scope."""
    for tensor in scope.initializers:
        yield tensor.name, tensor
    for node in scope.nodes:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], attribute.t


def constants(model):
    """Every initializer and Constant tensor under its name in a plan file; the messages, not copies."""
    return {scope.values + name: tensor for scope in scopes(model) for name, tensor in tensors_of(scope)}


class Roles:
    """How operators read the constants: which numbers mean zero, and which are to be left alone."""

    def __init__(self, found):
        self.tensors = {id(scope): dict(tensors_of(scope)) for scope in found}
        self.zero_points, self.untouched = {}, set()
        for scope in found:
            self.moved = {name: node.input[0] for node in scope.nodes if node.op_type in MOVES for name in node.output}
            for node in scope.nodes:
                for slot, zero_slot in QUANTIZED_INPUTS.get(node.op_type, ()):
                    tensor, zero_point = self.operand(scope, node, slot), self.operand(scope, node, zero_slot)
                    if tensor is not None and zero_point is not None:
                        self.zero_points[id(tensor)] = (numpy_helper.to_array(zero_point), axis_of(node), block_of(node))
                for slot in UNTOUCHED_INPUTS.get(node.op_type, ()):
                    self.untouched.add(id(self.operand(scope, node, slot)))

    def operand(self, scope, node, slot):
        """The constant that the node reads there, or None: the innermost of that name around it."""
        name = node.input[slot] if slot < len(node.input) else ""
        while name in self.moved:
            name = self.moved[name]
        while scope is not None and name:
            if name in self.tensors[id(scope)]:
                return self.tensors[id(scope)][name]
            scope = scope.outer
        return None


def axis_of(node):
    default = 1 if node.op_type == "DequantizeLinear" else None
    return next((a.i for a in node.attribute if a.name == "axis"), default)


def block_of(node):
    """How many entries share a zero point along the axis, where the node says it."""
    return next((a.i for a in node.attribute if a.name == "block_size"), 0)


def broadcast_zero_point(zero_point, axis, block, dims):
    """The zero point in a form that broadcasts over a tensor of `dims`."""
    if zero_point.size == 1:
        return zero_point.reshape(())
    if zero_point.ndim == len(dims):
        # One for each block of an axis, or already aligned.
        for k, (have, want) in enumerate(zip(zero_point.shape, dims)):
            share = block if block and axis is not None and k == axis % len(dims) else -(-want // have)
            zero_point = np.repeat(zero_point, share, k).take(range(want), k)
        return zero_point
    if zero_point.ndim == 2 and len(dims) == 3:
        return zero_point[:, None, :]  # the LSTM's: direction, (all inputs), gate and unit
    if axis is None:  # products are quantized by column, convolutions by filter, LSTMs by direction
        axis = 0 if len(dims) > 2 else len(dims) - 1
    shape = [1] * len(dims)
    shape[axis] = zero_point.size
    return zero_point.reshape(shape)


def silence(tensor, cut, zero_point):
    """Sets the slices of one cut to what means zero, in place."""
    array = numpy_helper.to_array(tensor).copy()
    if cut["axis"] >= array.ndim or max(cut["indices"]) >= array.shape[cut["axis"]]:
        raise Unknown(f"the plan names slices of {cut['value']} that it has not")
    where = [slice(None)] * array.ndim
    where[cut["axis"]] = cut["indices"]
    zero = np.zeros_like(array)
    if zero_point is not None:
        zero = zero + broadcast_zero_point(*zero_point, array.shape)
    array[tuple(where)] = zero[tuple(where)]
    tensor.CopyFrom(numpy_helper.from_array(array.astype(zero.dtype), tensor.name))


def computed(model, scope, name):
    """What a value is that the scope computes from constants."""
    makers = {output: node for node in scope.nodes for output in node.output}
    tensors, nodes, waiting = dict(tensors_of(scope)), [], [name]
    if name not in makers:
        raise Unknown(f"the plan names {name}, which the original does not compute")
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and not any(node is other for other in nodes):
            nodes.append(node)
            waiting += node.input
    nodes = [node for node in scope.nodes if any(node is other for other in nodes)]
    read = {value for node in nodes for value in node.input}
    own = [t for n, t in tensors.items() if n in read and not any(n in node.output for node in nodes)]
    output = onnx.helper.make_empty_tensor_value_info(name)
    part = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "computed", [], [output], own),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        functions=model.functions,
    )
    session = onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    return numpy_helper.from_array(session.run(None, {})[0], name)


def store(model, scope, name):
    """Makes a computed value a constant of the scope."""
    tensor = computed(model, scope, name)
    for node in scope.nodes:
        for at, output in enumerate(node.output):
            if output == name:
                node.output[at] = f"{name}__as_computed"
    scope.give(tensor)
    return dict(tensors_of(scope))[name]


def private(reader_scope, node, slot, tensor):
    """A copy of a constant for one input of one node."""
    own = onnx.TensorProto()
    own.CopyFrom(tensor)
    own.name = f"{tensor.name}__of_{next(filter(None, node.output), '')}_{slot}"
    reader_scope.give(own)
    node.input[slot] = own.name
    top = reader_scope
    while top.outer is not None:
        top = top.outer
    return dict(tensors_of(top))[own.name]


def zeroed(model, plan):
    """A copy of the model in which every slice that the plan removes is zero. Raises Unknown."""
    if plan.get("rotations"):
        raise Unknown("the plan speaks of weights in another basis, which the original lacks")
    changed, found = apart(model)
    roles = Roles(found)
    values, readers = {}, {}
    for scope in found:
        for name, tensor in tensors_of(scope):
            values.setdefault(scope.values + name, []).append((scope, tensor))
        for node in scope.nodes:
            readers[scope.readers + scope.label(node)] = (scope, node)
    for cut in plan["removed"]:
        name = cut["value"]
        if cut.get("computed") and name not in values:
            homes = [(scope, name[len(scope.values) :]) for scope in found if name.startswith(scope.values)]
            homes = [(scope, inner) for scope, inner in homes if any(inner in node.output for node in scope.nodes)]
            values[name] = [(scope, store(changed, scope, inner)) for scope, inner in homes]
        if not values.get(name):
            raise Unknown(f"the plan names {name}, which the original lacks")
    # What all readers lose first: a reader's own copy is made of what is left.
    own = {}
    for cut in sorted(plan["removed"], key=lambda cut: "reader" in cut):
        homes = values[cut["value"]]
        if "reader" not in cut:
            for _, tensor in homes:
                if id(tensor) not in roles.untouched:
                    silence(tensor, cut, roles.zero_points.get(id(tensor)))
            continue
        at, slot = cut["reader"]
        if at not in readers or slot >= len(readers[at][1].input):
            raise Unknown(f"the plan names the reader {at}, input {slot}, which the original lacks")
        reader_scope, node = readers[at]
        if slot in UNTOUCHED_INPUTS.get(node.op_type, ()):
            continue
        # Of a function's constants every call has its own.
        around = [home for home in homes if at.startswith(home[0].readers)] or homes
        _, tensor = max(around, key=lambda home: len(home[0].readers))
        zero_point = roles.zero_points.get(id(tensor))
        if (cut["value"], at, slot) not in own:
            own[cut["value"], at, slot] = private(reader_scope, node, slot, tensor)
        silence(own[cut["value"], at, slot], cut, zero_point)
    return changed
