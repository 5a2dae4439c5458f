use super::*;
use crate::ops::case::OpCase;

#[test]
fn plain_grouped_and_depthwise() {
    let text = "x[b, g·i, s, s2] w[g·o, i, k, k2] bias[g·o] → y[b, g·o, t, t2]  Σ i,k,k2";
    let conv = || OpCase::op("Conv").at(17);
    conv()
        .input("bx3xhxw")
        .weight("64x3x7x7")
        .weight("64")
        .ints("strides", &[2, 2])
        .ints("pads", &[3; 4])
        .expect_shapes("bx64xfloor((h + 1)/(2))xfloor((w + 1)/(2))")
        .expect_relation(text);
    conv()
        .input("2x12x5x5")
        .weight("8x3x3x3")
        .weight("8")
        .int("group", 4)
        .expect_shapes("2x8x3x3")
        .expect_relation(text);
    conv()
        .input("2x12x5x5")
        .weight("12x1x3x3")
        .weight("12")
        .int("group", 12)
        .ints("pads", &[1; 4])
        .expect_shapes("2x12x5x5")
        .expect_relation(text);
}

#[test]
fn one_and_three_spatial_axes() {
    let conv = || OpCase::op("Conv").at(7);
    conv()
        .input("2x4x10")
        .weight("6x4x3")
        .ints("dilations", &[2])
        .expect_shapes("2x6x6")
        .expect_relation("x[b, g·i, s] w[g·o, i, k] → y[b, g·o, t]  Σ i,k");
    conv()
        .input("1x2x4x5x6")
        .weight("3x2x1x2x3")
        .expect_shapes("1x3x4x4x4")
        .expect_relation(
            "x[b, g·i, s, s2, s3] w[g·o, i, k, k2, k3] → y[b, g·o, t, t2, t3]  Σ i,k,k2,k3",
        );
}

#[test]
fn a_filter_along_one_axis_looks_at_other_neighbours() {
    let filter =
        |x: &str, w: &str, pads: &[i64]| OpCase::op("Conv").input(x).weight(w).ints("pads", pads);
    filter("bx1x24", "1x1x5", &[2, 2])
        .expect_shapes("bx1x24")
        .expect_relation("x[b, g·i, s] w[g·o, i, k] → y[b, g·o, s]  Σ i,k");
    filter("bx2x24", "1x2x5", &[2, 2])
        .expect_shapes("bx1x24")
        .expect_relation("x[b, g·i, s] w[g·o, i, k] → y[b, g·o, s]  Σ i,k");
    // One that shortens the axis, or of more than two maps, goes by places.
    filter("bx1x24", "1x1x5", &[0, 0])
        .expect_shapes("bx1x20")
        .expect_relation("x[b, g·i, s] w[g·o, i, k] → y[b, g·o, t]  Σ i,k");
    filter("bx3x24", "1x3x5", &[2, 2])
        .expect_shapes("bx1x24")
        .expect_relation("x[b, g·i, s] w[g·o, i, k] → y[b, g·o, t]  Σ i,k");
}

#[test]
fn automatic_padding() {
    let conv = |padding| {
        OpCase::op("Conv")
            .input("1x1xhx7")
            .weight("1x1x3x3")
            .ints("strides", &[2, 2])
            .text("auto_pad", padding)
    };
    conv("SAME_UPPER").expect_shapes("1x1xfloor((h + 1)/(2))x4");
    conv("SAME_LOWER").expect_shapes("1x1xfloor((h + 1)/(2))x4");
    conv("VALID").expect_shapes("1x1xfloor((h - 1)/(2))x3");
}

#[test]
fn windows_resolve_padding() {
    let pads = |input: &str, padding| {
        let conv = OpCase::op("Conv")
            .input(input)
            .weight("1x1x3")
            .ints("strides", &[2])
            .text("auto_pad", padding);
        conv.view(|view| PLAIN.relate(view).terms[0].window.clone().unwrap().pads)
    };
    assert_eq!(pads("1x1x8", "SAME_UPPER"), [0, 1]);
    assert_eq!(pads("1x1x8", "SAME_LOWER"), [1, 0]);
    assert!(pads("1x1xh", "SAME_UPPER").is_empty());
}

#[test]
fn transposed() {
    let text = "x[b, g·i, s, s2] w[g·i, o, k, k2] bias[g·o] → y[b, g·o, t, t2]  Σ i";
    let conv = || {
        OpCase::op("ConvTranspose")
            .input("1x4xhx3")
            .weight("4x3x3x3")
            .weight("6")
            .int("group", 2)
            .ints("strides", &[2, 2])
    };
    conv().expect_shapes("1x6x2*h + 1x7").expect_relation(text);
    conv()
        .ints("pads", &[1; 4])
        .ints("output_padding", &[1, 1])
        .expect_shapes("1x6x2*hx6")
        .expect_relation(text);
    conv()
        .ints("output_shape", &[9, 8])
        .expect_shapes("1x6x9x8");
    conv()
        .text("auto_pad", "SAME_UPPER")
        .expect_shapes("1x6x2*hx6");
}

#[test]
fn integers() {
    OpCase::op("ConvInteger")
        .input("u8:1x4x5x5")
        .weight("u8:6x4x3x3")
        .weight("u8:")
        .weight("u8:6")
        .expect_shapes("1x6x3x3")
        .expect_relation(
            "x[b, g·i, s, s2] w[g·o, i, k, k2] x_zero[] w_zero[g·o] → y[b, g·o, t, t2]  Σ i,k,k2",
        );
    let start = OpCase::op("QLinearConv")
        .input("u8:1x4x5")
        .weight("")
        .weight("u8:")
        .weight("i8:6x2x3");
    start.weight("6").weight("i8:6").weight("").weight("u8:").weight("i32:6").int("group", 2).expect_shapes("1x6x3").expect_relation(
        "x[b, g·i, s] x_scale[] x_zero[] w[g·o, i, k] w_scale[g·o] w_zero[g·o] y_scale[] y_zero[] bias[g·o] → y[b, g·o, t]  Σ i,k",
    );
}

#[test]
fn fused() {
    let start = OpCase::op("FusedConv")
        .domain("com.microsoft")
        .at(1)
        .input("1x4x5x5")
        .weight("6x4x3x3")
        .weight("6")
        .input("1x6x3x3");
    start.expect_shapes("1x6x3x3").expect_relation(
        "x[b, g·i, s, s2] w[g·o, i, k, k2] bias[g·o] z[b, g·o, t, t2] → y[b, g·o, t, t2]  Σ i,k,k2",
    );
    let nhwc = OpCase::op("NhwcConv")
        .domain("com.microsoft")
        .at(1)
        .input("1x5x5x4")
        .weight("6x4x3x3");
    nhwc.expect_shapes("1x3x3x6")
        .expect_relation("x[b, s, s2, g·i] w[g·o, i, k, k2] → y[b, t, t2, g·o]  Σ i,k,k2");
}

#[test]
fn deformed() {
    let start = || {
        OpCase::op("DeformConv")
            .input("1x4x5x5")
            .weight("6x4x3x3")
            .input("1x18x3x3")
    };
    start().expect_shapes("1x6x3x3").expect_relation(
        "x[b, g·i, s, s2] w[g·o, i, k, k2] offset[b, d, t, t2] → y[b, g·o, t, t2]  Σ i,k,k2",
    );
}

#[test]
fn group_follows_the_groups() {
    let groups = OpCase::op("Conv")
        .input("1x12x5x5")
        .weight("12x1x3x3")
        .int("group", 12)
        .view(|view| {
            let relation = PLAIN.relate(view);
            let mut kept = vec![None; relation.labels.len()];
            kept[relation.named("g").unwrap().index()] = Some([0, 3, 4, 7, 11].into());
            let mut edit = NodeEdit::default();
            PLAIN
                .rewrite(
                    view,
                    &Cut {
                        relation: &relation,
                        kept,
                    },
                    &mut edit,
                )
                .unwrap();
            edit.settings
        });
    assert_eq!(groups, [("group", crate::ops::Setting::Int(5))]);
}

#[test]
fn an_unknown_rank_fixes_the_node() {
    let mut conv = OpCase::op("Conv")
        .input("1x4x5x5")
        .weight("6x4x3x3")
        .weight("6");
    conv.inputs[1].as_mut().unwrap().fact.shape = None;
    let conv = conv.expect_shapes("?");
    let relation = conv.view(|view| PLAIN.relate(view));
    assert!(
        relation
            .labels
            .iter()
            .all(|label| matches!(label.fate, crate::relation::Fate::Fixed(_)))
    );
}
