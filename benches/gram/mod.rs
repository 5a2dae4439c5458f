//! How much of the machine's speed of multiplying matrices goes into moments of activations.

use std::hint::black_box;
use std::time::{Duration, Instant};

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use onnx_prune::calibrate::{Moments, POSITIONS};
use rayon::prelude::*;

/// Runs that come at once, and views that do.
const RUNS: usize = 32;
const VIEWS: usize = 4;
/// Extent of the square product that is taken for the peak: a call takes about as long as those that are held against it.
const SQUARE: usize = 2048;

/// The shortest of many calls: what a machine gives that does nothing else.
fn seconds(mut call: impl FnMut()) -> f64 {
    let (begin, mut least) = (Instant::now(), f64::INFINITY);
    let mut calls = 0;
    while calls < 3 || begin.elapsed() < Duration::from_secs(3) {
        let start = Instant::now();
        call();
        least = least.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    least
}

/// Prints the peak, and for several widths the rows per second and the share of the peak.
pub fn report() {
    let square = |seed: usize| {
        Mat::<f32>::from_fn(SQUARE, SQUARE, |row, column| {
            ((row * 31 + column * 7 + seed) % 17) as f32 / 17.0
        })
    };
    let (left, right, mut product) = (square(0), square(5), Mat::<f32>::zeros(SQUARE, SQUARE));
    let one = seconds(|| {
        matmul(
            product.as_mut(),
            Accum::Replace,
            left.as_ref(),
            right.as_ref(),
            1.0,
            Par::Seq,
        )
    });
    let all = seconds(|| {
        matmul(
            product.as_mut(),
            Accum::Replace,
            left.as_ref(),
            right.as_ref(),
            1.0,
            Par::rayon(0),
        )
    });
    let peak = 2.0 * (SQUARE as f64).powi(3) / all;
    let threads = rayon::current_num_threads();
    println!(
        "f32 product of {SQUARE} × {SQUARE}: {:.1} GFLOP/s with {threads} threads, {:.1} with one",
        peak / 1e9,
        peak * all / one / 1e9
    );
    println!(
        "share of the former, by rows × columns² (the triangle, which is needed) and by 2 × rows × columns² (the full product)"
    );
    for columns in [144, 288, 576, 1152] {
        let part = |run: usize| {
            (0..POSITIONS * columns)
                .map(|at| ((at * 13 + run) % 29) as f32 / 29.0)
                .collect::<Vec<f32>>()
        };
        let parts: Vec<Vec<f32>> = (0..RUNS).map(part).collect();
        for views in [1, VIEWS] {
            let mut moments = vec![Moments::new(1, columns); views];
            let time = seconds(|| {
                moments
                    .par_iter_mut()
                    .for_each(|moments| moments.add_parts(black_box(&parts)))
            });
            let rate = (views * RUNS * POSITIONS) as f64 / time;
            let share = rate * (columns * columns) as f64 / peak * 100.0;
            println!(
                "{columns:5} columns, {views} at once: {rate:9.0} rows/s, triangle {share:.0} %, full {:.0} %",
                share * 2.0
            );
        }
    }
}
