//! How fast something grows.

/// The power of `x` that `y` grows with, over the larger half of the sizes: the slope of the line
/// through the logarithms, by least squares. What does not depend on the size weighs less there.
pub fn exponent(points: impl Iterator<Item = (f64, f64)>) -> f64 {
    let points: Vec<(f64, f64)> = points.map(|(x, y)| (x.ln(), y.ln())).collect();
    let (_, larger) = points.split_at(points.len() / 2);
    #[expect(clippy::cast_precision_loss, reason = "a few points")]
    let count = larger.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| larger.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
    let (mut together, mut alone) = (0.0, 0.0);
    for (x, y) in larger {
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
