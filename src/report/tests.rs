use super::*;

fn report() -> Report {
    Report {
        tool: Named { name: "onnx-prune".into(), version: "0.1.0".into() },
        model: ModelSummary {
            path: "a<b>.onnx".into(),
            sha256: "00ff".into(),
            ir_version: 8,
            opset: [(String::new(), 17)].into(),
            nodes: 41,
        },
        original: Some(Costs { macs: 1_000_000, params: 25_557_032, bytes: 102_000_000, latency_ms: Some(12.0) }),
        pruned: Some(Costs { macs: 480_000, params: 12_000_000, bytes: 48_000_000, latency_ms: Some(6.0) }),
        params_prunable: Some(25_000_000),
        groups: vec![
            GroupSummary {
                id: "g0".into(),
                kind: "channels".into(),
                units: 64,
                kept: 48,
                weights: vec!["conv|1.weight".into(), "bn1.scale".into()],
                params: 6400,
                macs: 100,
                lossy: None,
            },
            GroupSummary { id: "g1".into(), kind: "heads".into(), units: 12, kept: 12, ..Default::default() },
        ],
        frozen: vec![FrozenSummary { reason: "output of the model".into(), params: 2_555_703, nodes: vec!["fc".into()] }],
        exactness: Some(Exactness { verdict: ExactnessVerdict::Exact, max_relative_error: Some(3.1e-7), inputs: 8, reason: None }),
        drift: Some(Drift {
            verdict: DriftVerdict::Fail,
            inputs: 100,
            synthetic: true,
            outputs: vec![OutputDrift {
                name: "logits".into(),
                relative_l2: 0.021,
                cosine: 0.99978,
                max_abs: 0.4,
                top1_agreement: Some(0.99),
                kl: Some(f64::INFINITY),
            }],
            labelled: Some(Labelled { metric: "accuracy".into(), original: 0.994, pruned: 0.99 }),
        }),
        tradeoff: vec![
            TradeoffPoint { macs: 1_000_000, params: 25_557_032, bytes: 102_000_000, drift: Some(0.0) },
            TradeoffPoint { macs: 700_000, params: 20_000_000, bytes: 80_000_000, drift: Some(0.0183) },
            TradeoffPoint { macs: 480_000, params: 12_000_000, bytes: 48_000_000, drift: None },
        ],
        runtime: Some(Named { name: "tract".into(), version: "0.23.9".into() }),
        seconds: Seconds(vec![("load".into(), 0.012), ("cut".into(), 1.5)]),
        peak_rss_bytes: Some(120_000_000),
    }
}

#[test]
fn json_has_the_names_of_the_contract() {
    let value: serde_json::Value = serde_json::from_str(&json(&report()).unwrap()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        keys(&value),
        "tool model original pruned params_prunable groups frozen exactness drift tradeoff runtime seconds peak_rss_bytes"
    );
    assert_eq!(keys(&value["model"]), "path sha256 ir_version opset nodes");
    assert_eq!(keys(&value["original"]), "macs params bytes latency_ms");
    assert_eq!(keys(&value["groups"][0]), "id kind units kept weights params macs lossy");
    assert_eq!(keys(&value["frozen"][0]), "reason params nodes");
    assert_eq!(keys(&value["exactness"]), "verdict max_relative_error inputs reason");
    assert_eq!(keys(&value["drift"]), "verdict inputs synthetic outputs labelled");
    assert_eq!(keys(&value["drift"]["outputs"][0]), "name relative_l2 cosine max_abs top1_agreement kl");
    assert_eq!(keys(&value["tradeoff"][0]), "macs params bytes drift");
    assert_eq!(keys(&value["seconds"]), "load cut");
    assert_eq!((value["exactness"]["verdict"].as_str(), value["drift"]["outputs"][0]["kl"].is_null()), (Some("exact"), true));
}

#[test]
fn the_terminal_shows_what_counts() {
    let text = terminal(&report());
    let expected = "\
a<b>.onnx  (opset 17, 41 nodes)

Before and after
               before    after  remains  factor
  parameters   25.6 M   12.0 M     47 %   2.13×
  MACs         1.00 M    480 k     48 %   2.08×
  size         102 MB  48.0 MB     47 %   2.12×
  latency     12.0 ms  6.00 ms     50 %   2.00×

Exactness
  exact: the same as the original with the removed slices zeroed (relative error at most 3.1e-7 on 8 inputs)

Drift
  output  relative L2   cosine  max abs  top-1 agrees  KL
  logits        0.021  0.99978      0.4          99 %   –
  NOT within the thresholds, on 100 inputs
  the inputs were made up: on real ones (--data) the drift is another
  accuracy against the labels: 99.40 % before, 99 % after

Cut most
  group              kind        units  kept  parameters gone
  conv|1.weight + 1  channels  64 → 48  75 %           1.60 k
  1 group left whole

Frozen, and why
  parameters  of all  reason               nodes
      2.56 M    10 %  output of the model  fc

Trade-off
   MACs  parameters   size  drift  taken by
  100 %       100 %  100 %      0
   70 %        78 %   78 %  0.018  --target drift=0.019
   48 %        47 %   47 %      –  --target macs=0.48

Run
  models were run in tract 0.23.9
  load 12.0 ms, cut 1.50 s
  120 MB of memory at most
";
    assert_eq!(text, expected);
}

#[test]
fn names_do_not_become_markup() {
    let page = html(&report()).unwrap();
    assert!(page.contains("a&lt;b&gt;.onnx") && !page.contains("a<b>"));
    assert!(page.contains("48 of 64 channels kept") && page.contains("<polyline"));
    assert!(!page.contains("http"), "a page that needs nothing else");
    let text = markdown(&report());
    assert!(text.contains("| conv\\|1.weight + 1 | channels | 64 → 48 |"), "{text}");
    let xml = junit(&report());
    assert!(xml.contains("tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\"") && xml.contains("a&lt;b&gt;.onnx"), "{xml}");
}

#[test]
fn the_ending_decides() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ["json", "md", "html", "xml"] {
        write(&report(), &folder.path().join(format!("r.{ending}"))).unwrap();
    }
    let error = write(&report(), &folder.path().join("r.pdf")).unwrap_err().to_string();
    assert!(error.contains(".json, .md, .html or .xml"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    assert!(terminal(&Report::default()).contains("nodes"));
}
