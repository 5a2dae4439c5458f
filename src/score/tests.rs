//! Scores of small models, against numbers worked out by hand.

use std::collections::BTreeMap;

use super::*;
use crate::analysis::{Options, analyse};
use crate::calibrate::Moments;
use crate::linear::views;
use crate::model::text;

/// Three channels between two products.
const PAIR: &str = "input x f32[n,2]\nconst w f32[2,3] = 1,0,4, 0,2,0\nconst v f32[3,2] = 1,1, 2,0, 0,3\nh = MatMul(x, w)\ny = MatMul(h, v)\noutput y";

/// The only group that some weight holds on some axis.
fn group<'a>(analysis: &'a Analysis, id: &str) -> &'a Group {
    analysis
        .groups
        .iter()
        .find(|group| group.id == id)
        .unwrap_or_else(|| panic!("{id} is none of {:?}", ids(analysis)))
}

fn ids(analysis: &Analysis) -> Vec<&str> {
    analysis
        .groups
        .iter()
        .map(|group| group.id.as_str())
        .collect()
}

fn near(found: &[f64], wanted: &[f64]) {
    let same =
        found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(same, "{found:?} instead of {wanted:?}");
}

#[test]
fn statistics_weigh_what_readers_get() {
    let model = text::model(PAIR).unwrap();
    let analysis = analyse(&model, &Options::default());
    let views = views(&model, &analysis.relations);
    // Two rows of h: columns 1, 3 (mean 2, variance 1), 2, 2 (variance 0), -1, 1 (variance 1).
    let mut moments = Moments::new(1, 3);
    moments.add(&[1.0, 2.0, -1.0, 3.0, 2.0, 1.0]);
    let reader = views
        .iter()
        .find(|view| model.index().value(view.data).name == "h")
        .unwrap();
    let statistics = Statistics {
        samples: 2,
        of: BTreeMap::from([(reader.key(&model), moments)]),
    };
    let evidence = Evidence {
        model: &model,
        analysis: &analysis,
    };
    let calibrated = Calibrated {
        evidence,
        views: &views,
        statistics: Some(&statistics),
        derivatives: None,
    };
    let group = group(&analysis, "v:0");
    // Squared norms of the rows of v: 2, 4, 9. Times the variance 2, 0, 9.
    let curve = super::variance::curve(&calibrated, group).unwrap();
    assert_eq!(curve.order, [1, 0, 2]);
    near(&curve.error, &[0.0, 0.0, 2.0 / 11.0, 1.0]);
    // Times the squared norms of the activations, 10, 8 and 2: 20, 32, 18.
    let curve = super::wanda::curve(&calibrated, group).unwrap();
    assert_eq!(curve.order, [2, 0, 1]);
    near(&curve.error, &[0.0, 18.0 / 70.0, 38.0 / 70.0, 1.0]);
    let without = Calibrated {
        statistics: None,
        ..calibrated
    };
    assert!(
        super::variance::curve(&without, group).is_none()
            && super::wanda::curve(&without, group).is_none()
    );
}

#[test]
fn what_readers_never_get_is_lost_for_nothing() {
    let model = text::model(PAIR).unwrap();
    let analysis = analyse(&model, &Options::default());
    let views = views(&model, &analysis.relations);
    let reader = views
        .iter()
        .find(|view| model.index().value(view.data).name == "h")
        .unwrap();
    let evidence = Evidence {
        model: &model,
        analysis: &analysis,
    };
    // Few rows tell of single columns, more of how they go together. The second column is zero, though its weights are not.
    for rows in [2, 20] {
        let mut moments = Moments::new(1, 3);
        for row in 0..rows {
            moments.add(&[row as f32 * 1e-3, 0.0, (row * row % 7) as f32 * 1e-3]);
        }
        let statistics = Statistics {
            samples: rows,
            of: BTreeMap::from([(reader.key(&model), moments)]),
        };
        let calibrated = Calibrated {
            evidence,
            views: &views,
            statistics: Some(&statistics),
            derivatives: None,
        };
        let ByReaders::Curve(curve) =
            super::obs::Obs.by_readers(&calibrated, group(&analysis, "v:0"))
        else {
            panic!("a product reads the group")
        };
        assert_eq!((curve.order[0], curve.error[1]), (1, 0.0), "{rows}");
        assert!(curve.error[2] > 0.0, "{rows}");
    }
}

#[test]
fn distances_are_those_of_the_weight_vectors() {
    let model = text::model(PAIR).unwrap();
    let analysis = analyse(&model, &Options::default());
    let evidence = Evidence {
        model: &model,
        analysis: &analysis,
    };
    let groups = [group(&analysis, "v:0").clone()];
    // Units (1,0,1,1), (0,2,2,0), (4,0,0,3): squared distances 1+4+1+1 = 7, 9+0+1+4 = 14, 16+4+4+9 = 33.
    let (ab, ac, bc) = (7f64.sqrt(), 14f64.sqrt(), 33f64.sqrt());
    let sums = [ab + ac, ab + bc, ac + bc];
    let mean = sums.iter().sum::<f64>() / 3.0;
    near(
        &GeometricMedian.score(evidence, &groups)[0],
        &sums.map(|sum| sum / mean),
    );
    assert!(GeometricMedian.silent(evidence, &groups).is_empty());
    // Squared norms 3, 8, 25.
    let lamp = Lamp.curves(evidence, &groups);
    near(
        &lamp[0].error,
        &[
            0.0,
            3.0 / 36.0,
            3.0 / 36.0 + 8.0 / 33.0,
            3.0 / 36.0 + 8.0 / 33.0 + 1.0,
        ],
    );
}

#[test]
fn scales_of_batch_normalisation_count_where_there_are_some() {
    let graph = "input x f32[n,2,4,4]\nconst w f32[3,2,1,1]\nconst gamma f32[3] = 1, -3, 2\nconst beta f32[3] = 0, 0, 0\n\
                 const mean f32[3] = 0, 0, 0\nconst var f32[3] = 1, 1, 1\nconst v f32[4,3,1,1]\nconst u f32[2,4,1,1]\n\
                 a = Conv(x, w, _)\nb = BatchNormalization(a, gamma, beta, mean, var)\nc = Conv(b, v, _)\nr = Relu(c)\ny = Conv(r, u, _)\noutput y";
    let model = text::model(graph).unwrap();
    let analysis = analyse(&model, &Options::default());
    let evidence = Evidence {
        model: &model,
        analysis: &analysis,
    };
    let holds = |name: &str| {
        let found = analysis.groups.iter().find(|group| {
            group
                .weights
                .iter()
                .any(|(value, _)| model.index().value(*value).name == name)
        });
        found
            .unwrap_or_else(|| panic!("{name} in none of {:?}", ids(&analysis)))
            .clone()
    };
    let groups = [holds("gamma"), holds("u")];
    let scores = BatchNorm.score(evidence, &groups);
    near(&scores[0], &[0.5, 1.5, 1.0]);
    assert_eq!(scores[1], Norm::L2.score(evidence, &groups)[1]);
    assert_eq!(BatchNorm.silent(evidence, &groups), [1]);
}

#[test]
fn given_scores_must_be_those_of_the_groups() {
    let model = text::model(PAIR).unwrap();
    let analysis = analyse(&model, &Options::default());
    let given = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.json");
        std::fs::write(&path, text).unwrap();
        Given::read(&path).unwrap()
    };
    let good = given(r#"{"groups": [{"id": "v:0", "scores": [2, -1, 5]}]}"#);
    good.check(&analysis.groups).unwrap();
    let curve = good.curve(group(&analysis, "v:0"), |unit| unit != 0);
    assert_eq!(
        (curve.order, curve.error),
        (vec![0, 1], vec![0.0, 0.0, 6.0])
    );
    let short = given(r#"{"groups": [{"id": "v:0", "scores": [2, 1]}]}"#)
        .check(&analysis.groups)
        .unwrap_err();
    assert_eq!(
        short.to_string(),
        "group 'v:0' has 3 units, but 2 scores are given"
    );
    let other = given(r#"{"groups": [{"id": "q:0", "scores": [2, 1]}]}"#)
        .check(&analysis.groups)
        .unwrap_err();
    assert!(matches!(other, GivenError::NoSuchGroup(id) if id == "q:0"));
}

#[test]
fn masks_move_outputs_by_their_derivatives() {
    let model = text::model(PAIR).unwrap();
    let analysis = analyse(&model, &Options::default());
    let views = views(&model, &analysis.relations);
    let reads_h = |view: &crate::linear::Linear| model.index().value(view.data).name == "h";
    // Two sums: 1, 2, 0 and 3, -2, 0 by the three columns.
    let known =
        |view: &crate::linear::Linear| reads_h(view).then(|| vec![1.0, 2.0, 0.0, 3.0, -2.0, 0.0]);
    let derivatives = MaskDerivatives {
        samples: 2,
        of: views.iter().map(known).collect(),
    };
    let evidence = Evidence {
        model: &model,
        analysis: &analysis,
    };
    let calibrated = Calibrated {
        evidence,
        views: &views,
        statistics: None,
        derivatives: Some(&derivatives),
    };
    let group = group(&analysis, "v:0");
    // Mean squares 5, 4, 0.
    let curve = super::taylor::curve(&calibrated, group).unwrap();
    assert_eq!(curve.order, [2, 1, 0]);
    let shares: Vec<f64> = curve
        .error
        .iter()
        .map(|error| error / curve.error[3])
        .collect();
    near(&shares, &[0.0, 0.0, 4.0 / 9.0, 1.0]);
    let without = Calibrated {
        derivatives: None,
        ..calibrated
    };
    assert!(super::taylor::curve(&without, group).is_none());
}
