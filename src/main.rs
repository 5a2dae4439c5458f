use onnx_prune::*;
fn main() {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    let path = std::env::args().nth(1).unwrap();
    let model = model::load(path.as_ref(), Default::default()).unwrap();
    let prepared = job::Prepared::new(&model, &Default::default()).unwrap();
    let a = &prepared.analysis;
    let m = &prepared.working;
    for (n, p) in &a.facts.problems { println!("PROBLEM {} {}: {p}", m.node_label(*n), m.node(*n).op_type()); }
    for g in &a.groups {
        println!("{} {} units {} weights {:?} lossy {:?}", g.id, g.kind, g.units.len(), g.weights.iter().map(|(v, a)| format!("{}:{a}", m.index().value(*v).name)).collect::<Vec<_>>(), g.lossy);
    }
    let (prunable, frozen) = analysis::frozen(m, a, &a.groups);
    println!("prunable {prunable}");
    for f in frozen { println!("  {} {} {:?}", f.params, f.reason, &f.nodes[..f.nodes.len().min(4)]); }
    if std::env::args().nth(2).is_some() {
        for (n, _) in m.index().nodes() {
            println!("{} {}: {}", m.node_label(n), m.node(n).op_type(), a.relations[n.index()]);
            for (at, l) in a.relations[n.index()].labels.iter().enumerate() {
                let s = a.spaces.label(n, relation::LabelId(at as u16));
                let c: Vec<_> = a.classes.pieces(s).iter().map(|p| p.iter().map(|f| { let c = a.classes.get(f.class); format!("{}x{}@{}{}", f.class.0, c.extent, f.stride, if c.free { "free".into() } else { format!("{:?}", c.frozen) }) }).collect::<Vec<_>>()).collect();
                println!("      {} {} {:?} {c:?} {:?}", l.name, l.extent, l.fate, a.spaces.get(s).broken);
            }
        }
    }
}
