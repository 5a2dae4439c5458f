//! com.microsoft GroupQueryAttention in primitives, in the forms that tract lacks.

use super::builder::GraphBuilder;
use super::heads;
use super::rule::{Change, LoweringRule, Site, refusal};
use crate::model::TensorRef;
use crate::model::edit::NodeExt;
use crate::proto::{AttributeProto, NodeProto};
use crate::run::Unverifiable;

pub(super) const RULES: &[LoweringRule] = &[LoweringRule::code(
    "com.microsoft",
    "GroupQueryAttention",
    grouped,
)];

/// Position of every token, batch × length, from the lengths less one of the samples.
const PLACES: &str = "Places <first: ints> (lengths, shape, steps) => (start, places) {
    whole = Cast <to = 7> (lengths)
    last = Reshape (whole, shape)
    back = Constant <value_ints = @first> ()
    start = Add (last, back)
    places = Add (start, steps)
}";

/// Which rows of the cache are new, as zeros and ones, and which are old.
const ROWS: &str = "Rows (rows, places, start) => (is_new, is_old) {
    axes = Constant <value_ints = [1, 2]> ()
    at = Unsqueeze (places, axes)
    found = Equal (rows, at)
    is_new = Cast <to = 1> (found)
    first = Unsqueeze (start, axes)
    is_old = Less (rows, first)
}";

/// Logits bent so that none is larger than the cap.
const CAPPED: &str = "Capped <cap: float> (logits) => (y) {
    cap = Constant <value_float = @cap> ()
    small = Div (logits, cap)
    bent = Tanh (small)
    y = Mul (bent, cap)
}";

/// Logits without the keys behind each query.
const UNSEEN: &str = "Unseen <low: float> (logits, columns, places) => (y) {
    axes = Constant <value_ints = [1, 3]> ()
    at = Unsqueeze (places, axes)
    hidden = Greater (columns, at)
    low = Constant <value_float = @low> ()
    y = Where (hidden, low, logits)
}";

/// The same, and without those that the window has left behind.
const WINDOWED: &str = "Windowed <low: float> (logits, columns, places, window) => (y) {
    axes = Constant <value_ints = [1, 3]> ()
    at = Unsqueeze (places, axes)
    later = Greater (columns, at)
    oldest = Sub (at, window)
    newer = Greater (columns, oldest)
    too_old = Not (newer)
    hidden = Or (later, too_old)
    low = Constant <value_float = @low> ()
    y = Where (hidden, low, logits)
}";

/// Rows of a table of cosines or sines, with an axis for the heads.
const TABLE: &str = "Table (table, places) => (rows) {
    axes = Constant <value_ints = [2]> ()
    found = Gather <axis = 0> (table, places)
    rows = Unsqueeze (found, axes)
}";

/// Pairs turned by their angles.
const TURNED: &str = "Turned (a, b, cos, sin) => (x, y) {
    ac = Mul (a, cos)
    bs = Mul (b, sin)
    bc = Mul (b, cos)
    as = Mul (a, sin)
    x = Sub (ac, bs)
    y = Add (bc, as)
}";

/// Sizes of the node: `shared` counts the heads of keys and values, `size` is a head's width, `past` the rows of the given
/// cache, `keys` those of the new one, `total` the longest length.
struct QueryShape {
    batch: i64,
    length: i64,
    heads: i64,
    shared: i64,
    size: i64,
    past: i64,
    total: i64,
    keys: i64,
}

/// Tables of cosines and sines, and how many pairs of each head they turn.
struct Rotation {
    cos: String,
    sin: String,
    half: i64,
    neighbours: bool,
}

/// Inputs: q, k, v, past keys and values, lengths less one, the longest length, cosines, sines.
fn grouped(node: &NodeProto, site: &mut Site) -> Result<Change, Unverifiable> {
    if (9..node.input.len()).any(|slot| node.input(slot).is_some())
        || node.output(3).is_some()
        || node.int_or("smooth_softmax", 0) > 0
    {
        return Err(refusal(node, "has inputs or outputs beyond the usual"));
    }
    let Some(shape) = shape(node, site)? else {
        return Ok(Change::NeedsFacts);
    };
    let rotation = match node.int_or("do_rotary", 0) {
        0 => None,
        _ => match rotation(node, site, &shape)? {
            None => return Ok(Change::NeedsFacts),
            rotation => rotation,
        },
    };
    let builder = &mut site.builder;
    let (start, places) = places(node, builder, &shape)?;
    let rotation = rotation.as_ref();
    let q = operand(node, builder, (0, shape.heads, &shape), &places, rotation)?;
    let k = operand(node, builder, (1, shape.shared, &shape), &places, rotation)?;
    let v = operand(node, builder, (2, shape.shared, &shape), &places, None)?;
    let [k, v] = caches(node, builder, &shape, [&start, &places], [&k, &v])?;
    let QueryShape {
        batch,
        length,
        heads,
        shared,
        size,
        keys,
        ..
    } = shape;
    // Queries that share keys stand behind each other.
    let rows = heads / shared * length;
    let q = builder.reshape(&q, &[batch, shared, rows, size]);
    let logits = heads::logits(builder, &q, &k, node.float("scale"), size)?;
    let logits = builder.reshape(&logits, &[batch, heads, length, keys]);
    let logits = seen(node, builder, logits, keys, &places)?;
    let weights = vec![AttributeProto::int("axis", 3)];
    let weights = builder.op("Softmax", &[&logits], weights);
    let weights = builder.reshape(&weights, &[batch, shared, rows, keys]);
    let mixed = builder.op("MatMul", &[&weights, &v], Vec::new());
    let mixed = builder.reshape(&mixed, &[batch, heads, length, size]);
    let mixed = builder.transpose(&mixed, &[0, 2, 1, 3]);
    let joined = builder.reshape(&mixed, &[batch, length, heads * size]);
    builder.bind_output(&joined, node, 0);
    Ok(Change::Replaced)
}

/// `None` where the facts are missing.
fn shape(node: &NodeProto, site: &Site) -> Result<Option<QueryShape>, Unverifiable> {
    if (0..3).any(|slot| node.input(slot).is_none()) {
        return Err(refusal(node, "has queries, keys and values in one tensor"));
    }
    let (Some(_), Some(total)) = (node.input(5), node.input(6)) else {
        return Err(refusal(node, "lacks its lengths"));
    };
    let total = site.tensor(Some(total)).and_then(|total| total.to_i64());
    let (Some(dims), Some(total)) = (site.shape(node.input(0)), total) else {
        return Ok(None);
    };
    let (&[batch, length, width], Some(total)) = (dims.as_slice(), total.first().copied()) else {
        return Err(refusal(node, "its queries have no three axes"));
    };
    let [heads, shared] = ["num_heads", "kv_num_heads"].map(|name| node.int_or(name, 0));
    if heads <= 0 || shared <= 0 || heads % shared != 0 || width % heads != 0 || total < length {
        return Err(refusal(node, "its widths do not divide into heads"));
    }
    let past = match node.input(3) {
        None => 0,
        Some(past) => match site.shape(Some(past)).as_deref() {
            Some([_, _, past, _]) => *past,
            _ => return Ok(None),
        },
    };
    const LONG: i64 = 1 << 14;
    let keys = past.max(total);
    if keys > LONG {
        return Err(refusal(node, "its cache is too long"));
    }
    Ok(Some(QueryShape {
        batch,
        length,
        heads,
        shared,
        size: width / heads,
        past,
        total,
        keys,
    }))
}

/// `None` where the extents of the tables are not known.
fn rotation(
    node: &NodeProto,
    site: &Site,
    shape: &QueryShape,
) -> Result<Option<Rotation>, Unverifiable> {
    let (Some(cos), Some(sin)) = (node.input(7), node.input(8)) else {
        return Err(refusal(node, "lacks its cosines"));
    };
    match site.shape(Some(cos)).as_deref() {
        Some([_, half]) if 2 * half <= shape.size => Ok(Some(Rotation {
            cos: cos.to_owned(),
            sin: sin.to_owned(),
            half: *half,
            neighbours: node.int_or("rotary_interleaved", 0) != 0,
        })),
        Some(_) => Err(refusal(node, "rotates more than a head has")),
        None => Ok(None),
    }
}

/// The first new position of each sample (batch × 1), and all of them (batch × length).
fn places(
    node: &NodeProto,
    builder: &mut GraphBuilder,
    shape: &QueryShape,
) -> Result<(String, String), Unverifiable> {
    let steps = builder.positions(shape.length, &[1, -1]);
    // With nothing before, a prompt begins at once, and its padding stands behind it.
    if shape.total == shape.length {
        let start = builder.constant(&TensorRef::from_i64(vec![1, 1], &[0]));
        let places = builder.op("Add", &[&start, &steps], Vec::new());
        return Ok((start, places));
    }
    let (start, places) = (builder.names.fresh("start"), builder.names.fresh("places"));
    let batch = builder.ints(&[shape.batch, 1]);
    let inputs = [node.input(5).unwrap_or_default(), &batch, &steps];
    let first = vec![AttributeProto::ints("first", &[1 - shape.length])];
    builder.call_into(PLACES, &inputs, &[&start, &places], first)?;
    Ok((start, places))
}

/// Queries, keys or values split into so many heads, and turned by their positions.
fn operand(
    node: &NodeProto,
    builder: &mut GraphBuilder,
    (slot, heads, shape): (usize, i64, &QueryShape),
    places: &str,
    rotation: Option<&Rotation>,
) -> Result<String, Unverifiable> {
    let given = node.input(slot).unwrap_or_default();
    let mut parted = builder.reshape(given, &[0, 0, heads, shape.size]);
    if let Some(rotation) = rotation {
        parted = rotated(builder, &parted, places, rotation, [heads, shape.size])?;
    }
    Ok(builder.transpose(&parted, &[0, 2, 1, 3]))
}

/// Keys and values in the new caches, which are also outputs.
fn caches(
    node: &NodeProto,
    builder: &mut GraphBuilder,
    shape: &QueryShape,
    [start, places]: [&str; 2],
    new: [&str; 2],
) -> Result<[String; 2], Unverifiable> {
    let rows = builder.positions(shape.keys, &[1, 1, -1, 1]);
    let (is_new, is_old) = (builder.names.fresh("new"), builder.names.fresh("old"));
    builder.call_into(
        ROWS,
        &[&rows, places, start],
        &[&is_new, &is_old],
        Vec::new(),
    )?;
    let mut caches: [String; 2] = Default::default();
    for (slot, (cache, new)) in (1..).zip(caches.iter_mut().zip(new)) {
        // Each new row in its place by a product with zeros and ones, which is exact.
        *cache = builder.op("MatMul", &[&is_new, new], Vec::new());
        if let Some(old) = node.input(2 + slot).filter(|_| shape.past > 0) {
            let old = lengthened(builder, old, shape);
            *cache = builder.op("Where", &[&is_old, &old, cache], Vec::new());
        }
        builder.bind_output(cache, node, slot);
    }
    Ok(caches)
}

/// The old cache with zeros behind it, as long as the new one.
fn lengthened(builder: &mut GraphBuilder, old: &str, shape: &QueryShape) -> String {
    let more = shape.keys - shape.past;
    if more == 0 {
        return old.to_owned();
    }
    let dims =
        [shape.batch, shape.shared, more, shape.size].map(|dim| usize::try_from(dim).unwrap_or(0));
    let blank = vec![0.0; dims.iter().product()];
    let blank = builder.constant(&TensorRef::from_f32(dims.to_vec(), &blank));
    builder.concat(&[old, &blank], 2)
}

/// Logits of what each query may see.
fn seen(
    node: &NodeProto,
    builder: &mut GraphBuilder,
    mut logits: String,
    keys: i64,
    places: &str,
) -> Result<String, Unverifiable> {
    if let Some(cap) = node.float("softcap").filter(|cap| *cap > 0.0) {
        logits = builder.call(CAPPED, &[&logits], vec![AttributeProto::float("cap", cap)])?;
    }
    let columns = builder.positions(keys, &[1, 1, 1, -1]);
    let low = vec![AttributeProto::float("low", f32::MIN)];
    let window = node.int_or("local_window_size", -1);
    if window > 0 {
        let window = builder.ints(&[window]);
        return builder.call(WINDOWED, &[&logits, &columns, places, &window], low);
    }
    builder.call(UNSEEN, &[&logits, &columns, places], low)
}

/// Turns pairs of numbers of each head by their position's angles.
fn rotated(
    builder: &mut GraphBuilder,
    value: &str,
    places: &str,
    rotation: &Rotation,
    [heads, size]: [i64; 2],
) -> Result<String, Unverifiable> {
    let (half, neighbours) = (rotation.half, rotation.neighbours);
    let cos = builder.call(TABLE, &[&rotation.cos, places], Vec::new())?;
    let sin = builder.call(TABLE, &[&rotation.sin, places], Vec::new())?;
    let turned = builder.slice(value, 3, (0, 2 * half, 1));
    let (a, b) = if neighbours {
        let pairs = builder.reshape(&turned, &[0, 0, heads * half, 2]);
        let mut side = |at: i64| {
            let side = builder.slice(&pairs, 3, (at, at + 1, 1));
            builder.reshape(&side, &[0, 0, heads, half])
        };
        (side(0), side(1))
    } else {
        (
            builder.slice(&turned, 3, (0, half, 1)),
            builder.slice(&turned, 3, (half, 2 * half, 1)),
        )
    };
    let (x, y) = (builder.names.fresh("x"), builder.names.fresh("y"));
    builder.call_into(TURNED, &[&a, &b, &cos, &sin], &[&x, &y], Vec::new())?;
    let mut whole = if neighbours {
        let (x, y) = (builder.unsqueeze(&x, &[4]), builder.unsqueeze(&y, &[4]));
        let pairs = builder.concat(&[&x, &y], 4);
        builder.reshape(&pairs, &[0, 0, heads, 2 * half])
    } else {
        builder.concat(&[&x, &y], 3)
    };
    if 2 * half < size {
        let rest = builder.slice(value, 3, (2 * half, size, 1));
        whole = builder.concat(&[&whole, &rest], 3);
    }
    Ok(whole)
}
