//! How fast something grows.

/// The power of `x` that `y` grows with: the slope of the line through the logarithms, by least squares.
/// Over all sizes, as what no longer fits into a cache makes some steps steeper than they are.
pub fn exponent(points: impl Iterator<Item = (f64, f64)>) -> f64 {
    let points: Vec<(f64, f64)> = points.map(|(x, y)| (x.ln(), y.ln())).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few points")]
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
    let (mut together, mut alone) = (0.0, 0.0);
    for (x, y) in points {
        together += (x - mean_x) * (y - mean_y);
        alone += (x - mean_x).powi(2);
    }
    together / alone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_power_of_a_power() {
        for power in [0.0, 1.0, 2.0] {
            let points = [1.0_f64, 2.0, 5.0, 10.0, 100.0];
            let found = exponent(points.into_iter().map(|x| (x, 7.0 * x.powf(power))));
            assert!((found - power).abs() < 1e-9, "{found}");
        }
    }
}
