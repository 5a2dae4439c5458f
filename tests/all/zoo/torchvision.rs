//! The torchvision nets beside Torch-Pruning's list of 85, of which it prunes 77.

use std::fmt::Write;

use super::row::{Kind, Row};

/// Our graphs' architecture, the nets of the list that are built like it, and whether Torch-Pruning prunes those.
const NETS: &[(&str, &str, bool)] = &[
    ("alexnet", "alexnet", true),
    (
        "vit",
        "vit_b_16, vit_b_32, vit_l_16, vit_l_32, vit_h_14",
        true,
    ),
    (
        "convnext_tiny",
        "convnext_tiny, _small, _base, _large",
        true,
    ),
    ("densenet121", "densenet121, 161, 169, 201", true),
    ("efficientnet_b0", "efficientnet_b0 to b7", true),
    ("efficientnet_v2_s", "efficientnet_v2_s, _m, _l", true),
    ("googlenet", "googlenet", true),
    ("inception_v3", "inception_v3", true),
    ("mobilenet_v2", "mobilenet_v2", true),
    ("mobilenet_v3_small", "mobilenet_v3_small, _large", true),
    ("regnet_y_400mf", "regnet_y_400mf to 128gf (eight)", true),
    ("resnet18", "resnet18, 34", true),
    ("resnet50", "resnet50, 101, 152", true),
    ("resnext50_32x4d", "resnext50_32x4d, resnext101_32x8d", true),
    ("wide_resnet50_2", "wide_resnet50_2, wide_resnet101_2", true),
    ("fcn_resnet50", "fcn_resnet50, 101", true),
    (
        "deeplabv3_mobilenet_v3_large",
        "deeplabv3_resnet50, _resnet101, _mobilenet_v3_large",
        true,
    ),
    (
        "lraspp_mobilenet_v3_large",
        "lraspp_mobilenet_v3_large",
        true,
    ),
    ("squeezenet1_1", "squeezenet1_0, 1_1", true),
    (
        "vgg11_bn",
        "vgg11, 13, 16, 19, each with and without normalisation",
        true,
    ),
    ("ssdlite", "ssdlite320_mobilenet_v3_large", true),
    (
        "fasterrcnn_mobilenet",
        "fasterrcnn_resnet50_fpn, _v2, fasterrcnn_mobilenet_v3_large_fpn, _320_fpn",
        true,
    ),
    ("fcos", "fcos_resnet50_fpn", true),
    ("maskrcnn", "maskrcnn_resnet50_fpn_v2", true),
    ("retinanet", "retinanet_resnet50_fpn_v2", true),
    ("raft_small", "raft_large", false),
    ("swin", "swin_t, swin_s, swin_b", false),
    (
        "shufflenet_v2_x0_5",
        "shufflenet_v2_x0_5, x1_0, x1_5, x2_0",
        false,
    ),
];

/// The section on them.
pub fn section(page: &mut String, rows: &[Row]) {
    *page += "\n## Torchvision, beside Torch-Pruning\n\nTorch-Pruning ships a list of 85 nets of which it prunes 77 (a net counts when it runs afterwards). Six of the list\n";
    *page += "are not among our graphs: mnasnet (four), ssd300_vgg16 and keypointrcnn. The best of our graphs of each net:\n\n";
    *page += "| our graph | nets of the list | Torch-Pruning | prunable here | exact plans |\n|---|---|---|---:|---:|\n";
    for (net, of_the_list, does) in NETS {
        let own = rows.iter().filter(|row| {
            row.name
                .strip_prefix("torchvision-")
                .is_some_and(|name| name.starts_with(&format!("{net}-")))
        });
        let best = own.max_by(|a, b| a.share(a.with_width).total_cmp(&b.share(b.with_width)));
        let (share, exact) = best.map_or((0.0, 0), |row| {
            (row.share(row.with_width), row.count(Kind::Exact))
        });
        writeln!(
            page,
            "| {net} | {of_the_list} | {} | {share:.1} % | {exact} |",
            if *does { "yes" } else { "no" }
        )
        .unwrap();
    }
}
