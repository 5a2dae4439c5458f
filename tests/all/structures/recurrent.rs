//! Recurrent nets.

use super::Structure;

#[test]
fn stacked_recurrent_layers_both_ways() {
    for (operator, gates, outputs) in [
        ("LSTM", 4, "a, _, _"),
        ("GRU", 3, "a, _"),
        ("RNN", 1, "a, _"),
    ] {
        let (wide, second) = (gates * 6, outputs.replace('a', "d"));
        let text = format!(
            "input x f32[3,n,4]\nconst w f32[2,{wide},4]\nconst r f32[2,{wide},6]\nconst b f32[2,{}]\nconst v f32[2,{wide},12]\nconst s f32[2,{wide},6]\nconst h f32[12,5]\nconst flat i64[3] = 0,0,12
            {outputs} = {operator}(x, w, r, b) {{hidden_size=6, direction=\"bidirectional\"}}\na1 = Transpose(a) {{perm=[0,2,1,3]}}\nc = Reshape(a1, flat)
            {second} = {operator}(c, v, s) {{hidden_size=6, direction=\"bidirectional\"}}\nd1 = Transpose(d) {{perm=[0,2,1,3]}}\ne = Reshape(d1, flat)\ny = MatMul(e, h)\noutput y",
            2 * wide
        );
        Structure::new(&text, 99.0).coarse(&[6, 6]).holds();
    }
}

#[test]
fn one_way_with_states_given() {
    let text = "input x f32[3,n,4]\nconst w f32[1,24,4]\nconst r f32[1,24,6]\nconst b f32[1,48]\nconst h0 f32[1,2,6]\nconst h f32[6,5]\nconst ax i64[1] = 1
        a, _, _ = LSTM(x, w, r, b, _, h0, h0) {hidden_size=6}\nc = Squeeze(a, ax)\ny = MatMul(c, h)\noutput y";
    Structure::new(text, 99.0).coarse(&[6]).holds();
}
