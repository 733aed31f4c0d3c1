//! Properties that hold whatever the data: shifts, scales, order, mirror images, agreement of tests with their bounds.

use proptest::prelude::*;
use stats::Better;
use stats::bootstrap::{BootstrapPlan, bootstrap_median};
use stats::describe::{QuantileRule, interquartile_mean, mean, median, quantile, sample_sd};
use stats::distribution::{beta_quantile, beta_tails, normal_cdf, normal_quantile, student_t_quantile, student_t_tails};
use stats::hypervolume::hypervolume;
use stats::interval::{clustered_stderr, mean_stderr, t_interval};
use stats::multiple::holm;
use stats::pareto::{Objective, Tie, dominates, front};
use stats::rng::{derive_seed, permutation, stream};
use stats::signed_rank::signed_rank;

fn sample(least: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-100.0f64..100.0, least..40)
}

fn close(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-9 * scale.max(1.0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn location_statistics_move_with_shift_and_scale(values in sample(2), shift in -50.0f64..50.0, scale in 0.1f64..10.0) {
        let moved: Vec<f64> = values.iter().map(|x| shift + scale * x).collect();
        for statistic in [mean, median, interquartile_mean] {
            prop_assert!(close(statistic(&moved).unwrap(), shift + scale * statistic(&values).unwrap(), 1000.0));
        }
        prop_assert!(close(sample_sd(&moved).unwrap(), scale * sample_sd(&values).unwrap(), 1000.0));
    }

    #[test]
    fn order_of_values_does_not_matter(values in sample(2), seed: u64) {
        let order = permutation(&mut stream("test/order", seed, 0), values.len());
        let shuffled: Vec<f64> = order.iter().map(|&at| values[at]).collect();
        prop_assert!(close(mean(&values).unwrap(), mean(&shuffled).unwrap(), 100.0));
        prop_assert_eq!(median(&values).unwrap(), median(&shuffled).unwrap());
        let (a, b) = (signed_rank(&values, 0.05).unwrap(), signed_rank(&shuffled, 0.05).unwrap());
        prop_assert_eq!(a.interval, b.interval);
        prop_assert_eq!(a.p_greater, b.p_greater);
    }

    #[test]
    fn quantiles_rise_and_stay_inside(values in sample(1), p in 0.0f64..1.0, q in 0.0f64..1.0) {
        for rule in [QuantileRule::Linear, QuantileRule::Hazen, QuantileRule::InvertedCdf] {
            let (low, high) = (quantile(&values, p.min(q), rule).unwrap(), quantile(&values, p.max(q), rule).unwrap());
            prop_assert!(low <= high);
            prop_assert!(quantile(&values, 0.0, rule).unwrap() <= low && high <= quantile(&values, 1.0, rule).unwrap());
        }
    }

    #[test]
    fn signed_rank_mirrors_and_shifts(values in sample(6), shift in -50.0f64..50.0) {
        let result = signed_rank(&values, 0.05).unwrap();
        let mirrored = signed_rank(&values.iter().map(|d| -d).collect::<Vec<_>>(), 0.05).unwrap();
        prop_assert_eq!(mirrored.interval.low, -result.interval.high);
        prop_assert_eq!(mirrored.interval.estimate, -result.interval.estimate);
        prop_assert!((mirrored.p_greater - result.p_less).abs() < 1e-12);
        let shifted = signed_rank(&values.iter().map(|d| d + shift).collect::<Vec<_>>(), 0.05).unwrap();
        prop_assert!(close(shifted.interval.low, result.interval.low + shift, 1000.0));
        prop_assert!(result.interval.low <= result.interval.estimate && result.interval.estimate <= result.interval.high);
    }

    #[test]
    fn signed_rank_bound_and_test_agree(values in sample(6), at in -20.0f64..20.0) {
        // the lower bound is above `at` exactly when the one-sided test of the shifted differences rejects
        let result = signed_rank(&values, 0.05).unwrap();
        let shifted = signed_rank(&values.iter().map(|d| d - at).collect::<Vec<_>>(), 0.05).unwrap();
        prop_assert_eq!(result.interval.low > at, shifted.p_greater <= 0.05);
    }

    #[test]
    fn quantiles_invert_their_distributions(p in 1e-6f64..0.999_999, a in 0.2f64..50.0, b in 0.2f64..50.0) {
        prop_assert!((normal_cdf(normal_quantile(p)) - p).abs() < 1e-12);
        prop_assert!((student_t_tails(student_t_quantile(p, a).unwrap(), a).unwrap().lower - p).abs() < 1e-10);
        prop_assert!((beta_tails(beta_quantile(p, a, b).unwrap(), a, b).unwrap().lower - p).abs() < 1e-9);
        let tails = beta_tails(p, a, b).unwrap();
        prop_assert!((tails.lower + tails.upper - 1.0).abs() < 1e-14);
    }

    #[test]
    fn intervals_hold_their_estimate_and_widen_with_level(values in sample(3)) {
        let (narrow, wide) = (t_interval(&values, 0.8).unwrap(), t_interval(&values, 0.95).unwrap());
        prop_assert!(narrow.contains(narrow.estimate));
        prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
    }

    #[test]
    fn clusters_of_copies_count_once(values in sample(2), copies in 1usize..5) {
        // every value repeated in its own cluster: the clustered error ignores the repetition
        let repeated: Vec<f64> = values.iter().flat_map(|v| std::iter::repeat_n(*v, copies)).collect();
        let clusters: Vec<usize> = (0..values.len()).flat_map(|c| std::iter::repeat_n(c, copies)).collect();
        let clustered = clustered_stderr(&repeated, &clusters).unwrap().stderr;
        let n = values.len() as f64;
        prop_assert!(close(clustered, mean_stderr(&values).unwrap().stderr * ((n - 1.0) / n).sqrt(), 100.0));
    }

    #[test]
    fn holm_lies_between_plain_and_bonferroni(p_values in prop::collection::vec(0.0f64..1.0, 1..20)) {
        let adjusted = holm(&p_values, 0.05).unwrap().adjusted;
        for (p, q) in p_values.iter().zip(adjusted) {
            prop_assert!(*p <= q && q <= (p * p_values.len() as f64).min(1.0) + 1e-15);
        }
    }

    #[test]
    fn bootstrap_stays_inside_the_sample(values in sample(1), seed: u64) {
        let plan = BootstrapPlan { resamples: 200, seed, ..BootstrapPlan::default() };
        let interval = bootstrap_median(&values, &plan).unwrap().interval;
        let ends = (quantile(&values, 0.0, QuantileRule::Linear).unwrap(), quantile(&values, 1.0, QuantileRule::Linear).unwrap());
        prop_assert!(ends.0 <= interval.low && interval.low <= interval.high && interval.high <= ends.1);
    }

    #[test]
    fn front_is_never_empty_and_undominated(
        points in prop::collection::vec(prop::collection::vec(0.5f64..2.0, 3), 1..12),
        epsilon in 0.0f64..0.5,
    ) {
        let exact = [Objective::exact(Better::Higher), Objective::exact(Better::Lower), Objective::exact(Better::Lower)];
        let on_front = front(&points, &exact).unwrap();
        for (y, is_on) in points.iter().zip(&on_front) {
            prop_assert_eq!(*is_on, !points.iter().any(|x| dominates(x, y, &exact).unwrap()));
        }
        let loose = exact.map(|objective| Objective { tie: Tie::Relative(epsilon), ..objective });
        prop_assert!(front(&points, &loose).unwrap().contains(&true));
    }

    #[test]
    fn hypervolume_grows_with_points(points in prop::collection::vec(prop::collection::vec(0.1f64..1.2, 2), 2..10)) {
        let axes = [Objective::exact(Better::Lower); 2];
        let all = hypervolume(&points, &axes, &[1.0, 1.0], 0, 0).unwrap();
        let fewer = hypervolume(&points[1..], &axes, &[1.0, 1.0], 0, 0).unwrap();
        prop_assert!(close(all.volume - fewer.volume, all.contributions[0], 1e-3));
        prop_assert!(all.volume <= 1.0 && all.contributions.iter().sum::<f64>() <= all.volume + 1e-12);
    }

    #[test]
    fn streams_are_reproducible_and_distinct(purpose in "[a-z/]{0,20}", seed: u64, item: u64) {
        prop_assert_eq!(derive_seed(&purpose, seed, item), derive_seed(&purpose, seed, item));
        prop_assert_ne!(derive_seed(&purpose, seed, item), derive_seed(&purpose, seed, item.wrapping_add(1)));
        prop_assert_ne!(derive_seed(&purpose, seed, item), derive_seed(&purpose, seed.wrapping_add(1), item));
    }
}
