//! Calibration and decisions keep their promises on a million stationary events; the guard keeps an incident from becoming normal.

use larum::decision::{Calibration, Decider, DecisionSpec, GUARD_LEVEL, Judgement, Table, lesson, score};
use larum::draw::{Draw, Purpose};
use larum::model::{Encoded, LearnsFrom, Lesson, Part};

const EVENTS: u64 = 1_000_000;

/// A standard normal by the sum of twelve uniforms would have no tail; this is Box and Muller's.
fn normal(draw: Draw, index: u64) -> f64 {
    let (u, v) = (draw.unit(Purpose::Traffic, 2 * index), draw.unit(Purpose::Traffic, 2 * index + 1));
    (-2.0 * libm::log(1.0 - u)).sqrt() * libm::cos(2.0 * std::f64::consts::PI * v)
}

/// A detector's squared residual, and two label learners whose margins go with it a little.
fn strangeness(draw: Draw, i: u64) -> [Option<f64>; 3] {
    let (a, b, c) = (normal(draw, 3 * i), normal(draw, 3 * i + 1), normal(draw, 3 * i + 2));
    [Some(a * a), Some(b + 0.3 * a * a - 4.0), Some(c)]
}

const PARTS: [Part; 3] = [part(LearnsFrom::Events), part(LearnsFrom::Labels), part(LearnsFrom::Labels)];

const fn part(learns_from: LearnsFrom) -> Part {
    Part { learns_from, weight: 1.0, broad: false }
}

/// The judgement of each of a million stationary events, by one detector and two label learners.
fn each_stationary(seed: u64, mut f: impl FnMut(u64, &Judgement)) {
    let draw = Draw::for_partition(seed, "stationary", 0);
    let mut calibration = Calibration::new(&PARTS, draw);
    let nothing = Encoded::default();
    for i in 0..EVENTS {
        let strangeness = strangeness(draw, i);
        let judgement = calibration.judge(&strangeness);
        if calibration.progress().ready() {
            f(i, &judgement);
        }
        calibration.learn(i, &nothing, &strangeness, &judgement);
    }
}

#[test]
fn what_looks_at_all_events_weighs_little_among_few_and_the_other_detectors_the_more() {
    let broad = Part { broad: true, ..part(LearnsFrom::Events) };
    let draw = Draw::for_partition(1, "young", 0);
    let mut calibration = Calibration::new(&[broad, part(LearnsFrom::Events), part(LearnsFrom::Labels)], draw);
    let mut learned = 0;
    let mut with_only_one_strange = |events: u64| {
        while learned < events {
            let strangeness = [1, 2, 3].map(|column| Some(Draw::new(column).unit(Purpose::Traffic, learned)));
            let judgement = calibration.judge(&strangeness);
            calibration.learn(learned, &Encoded::default(), &strangeness, &judgement);
            learned += 1;
        }
        [0, 1, 2].map(|strange| {
            let mut strangeness = [Some(0.5); 3];
            strangeness[strange] = Some(0.999);
            calibration.judge(&strangeness).total.expect("calibrated")
        })
    };
    let [broad, other, labels] = with_only_one_strange(120);
    assert!(other > 2.0 * labels && labels > 1.2 * broad, "{broad} {other} {labels}");
    let [broad, other, labels] = with_only_one_strange(5_000);
    assert!((broad / other - 1.0).abs() < 0.3 && (labels / other - 1.0).abs() < 0.3, "{broad} {other} {labels}");
}

#[test]
fn a_million_stationary_events_alarm_at_the_nominal_rate_in_every_tenth() {
    for seed in [1, 2, 3] {
        // Two rates, and budgets of as many alarms in time: 1,000 events a second, .01 and .001 of them.
        let per_second = |alarms| DecisionSpec::AlarmBudget { alarms, per_ms: 1000.0 };
        let specs = [
            (0.01, DecisionSpec::FalseAlarmRate(0.01)),
            (0.001, DecisionSpec::FalseAlarmRate(0.001)),
            (0.01, per_second(10.0)),
            (0.001, per_second(1.0)),
        ];
        let mut deciders = specs.map(|(_, spec)| Decider::new(spec, 1));
        let mut alarms = [[0u32; 10]; 4];
        each_stationary(seed, |i, judgement| {
            let surprise = judgement.total.expect("calibrated");
            for (decider, alarms) in deciders.iter_mut().zip(&mut alarms) {
                alarms[(i * 10 / EVENTS) as usize] += u32::from(decider.decide(i as i64, surprise));
            }
        });
        for ((nominal, spec), alarms) in specs.iter().zip(alarms) {
            let due = nominal * EVENTS as f64 / 10.0;
            for alarms in alarms {
                assert!((f64::from(alarms) / due - 1.0).abs() <= 0.1, "seed {seed}, {spec:?}: {alarms:?} of {due}");
            }
        }
    }
}

#[test]
fn p_values_of_stationary_events_are_uniform() {
    let mut below = [0u32; 4];
    let levels = [0.5, 0.1, 0.02, 0.005];
    each_stationary(4, |_, judgement| {
        let p = libm::exp10(-judgement.total.expect("calibrated"));
        for (below, level) in below.iter_mut().zip(levels) {
            *below += u32::from(p < level);
        }
    });
    for (below, level) in below.iter().zip(levels) {
        let share = f64::from(*below) / EVENTS as f64;
        assert!((share / level - 1.0).abs() < 0.25, "p < {level}: {share}");
    }
}

#[test]
fn surprise_is_strictly_rising_and_finite_for_every_shape_of_past() {
    let draw = Draw::new(1);
    type Past = Box<dyn Fn(u64) -> f64>;
    let pasts: [(&str, Past); 7] = [
        ("squares", Box::new(move |i| normal(draw, i).powi(2))),
        ("margins", Box::new(move |i| normal(draw, i) - 5.0)),
        ("heavy", Box::new(move |i| libm::exp(5.0 * normal(draw, i)))),
        ("constant", Box::new(|_| 3.0)),
        ("zero", Box::new(|_| 0.0)),
        ("two values", Box::new(|i| f64::from(u8::from(i % 7 == 0)))),
        ("mixture", Box::new(|i| if i % 50 == 0 { 1e5 + i as f64 } else { (i % 13) as f64 })),
    ];
    for (name, past) in pasts {
        for n in [1, 2, 20, 100, 1000] {
            let table = Table::new((0..n).map(&past).collect());
            let values: Vec<f64> =
                (-300..=300).map(|i| libm::copysign(libm::expm1(f64::from(i).abs() / 10.0), f64::from(i))).collect();
            let mut last = 0.0;
            for value in values {
                let surprise = table.surprise(value);
                assert!(surprise > last && surprise.is_finite(), "{name}, {n}: {surprise} after {last} at {value}");
                assert!((0.0..1.0).contains(&score(surprise)));
                last = surprise;
            }
        }
    }
}

#[test]
fn surprise_stays_strictly_rising_while_the_tail_waits_to_be_fitted() {
    let draw = Draw::new(2);
    let new = |i: u64| normal(draw, i);
    let mut values: Vec<f64> = (0..4000).map(new).collect();
    let mut table = Table::new(values.clone());
    for i in 0..3000 {
        let slot = (draw.bits(Purpose::CalibrationSlot, i) % values.len() as u64) as usize;
        match i % 3 {
            0 => {
                table.replace(values[slot], new(5000 + i));
                values[slot] = new(5000 + i);
            }
            1 => {
                table.insert(new(5000 + i));
                values.push(new(5000 + i));
            }
            _ => table.remove(values.swap_remove(slot)),
        }
        // About where the tail begins, more finely than the values lie.
        let near: Vec<f64> = (1900..2200).map(|j| table.surprise(f64::from(j) / 1000.0)).collect();
        assert!(near.is_sorted_by(|a, b| a < b), "after {i} changes: {near:?}");
    }
}

#[test]
fn a_waiting_tail_is_near_the_one_that_would_be_fitted() {
    let draw = Draw::new(2);
    // The spread doubles while all values are replaced twice.
    let new = |i: u64| normal(draw, i) * (1.0 + i.min(8_000) as f64 / 8_000.0);
    let mut values: Vec<f64> = (0..4000).map(|i| normal(draw, 10_000 + i)).collect();
    let mut table = Table::new(values.clone());
    let mut fitted = 0;
    for i in 0..8000 {
        let slot = (draw.bits(Purpose::CalibrationSlot, i) % 4000) as usize;
        table.replace(values[slot], new(i));
        values[slot] = new(i);
        if i % 10 == 0 {
            let anew = Table::new(values.clone());
            fitted += u32::from(table == anew);
            // About p = .01, .001 and .0001.
            for surprise in [2.0, 3.0, 4.0] {
                let mut sorted = values.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                let value = sorted[3920] * (1.0 + 0.25 * (surprise - 1.7));
                let off = table.surprise(value) - anew.surprise(value);
                assert!(off.abs() < 0.15, "off by {off} at {value} after {i} replacements");
            }
        }
    }
    assert!((10..790).contains(&fitted), "the tail waits, but not forever: {fitted} of 800");
}

#[test]
fn replacing_in_a_small_table_is_building_anew() {
    let draw = Draw::new(2);
    let mut values: Vec<f64> = (0..200).map(|i| (normal(draw, i) * 4.0).round()).collect();
    let mut table = Table::new(values.clone());
    for i in 0..2000 {
        let slot = (draw.bits(Purpose::CalibrationSlot, i) % 200) as usize;
        let new = (normal(draw, 1000 + i) * 4.0).round();
        table.replace(values[slot], new);
        values[slot] = new;
        assert_eq!(table, Table::new(values.clone()), "after {i} replacements");
    }
}

#[test]
fn what_cold_detectors_found_strange_is_forgotten() {
    let draw = Draw::new(6);
    let mut calibration = Calibration::new(&PARTS[..1], draw);
    let mut surprise_after = |events: std::ops::Range<u64>| {
        for i in events {
            // Everything is far away while next to nothing is known.
            let strangeness = [Some(normal(draw, i).powi(2) + if i < 100 { 1e3 } else { 0.0 })];
            let judgement = calibration.judge(&strangeness);
            calibration.learn(i, &Encoded::default(), &strangeness, &judgement);
        }
        calibration.judge(&[Some(100.0)]).total.unwrap()
    };
    let (young, grown) = (surprise_after(0..999), surprise_after(999..1001));
    assert!(young < 1.1 && grown > 3.0, "-log10 p of what is strange by now: {young}, then {grown}");
}

#[test]
fn a_restored_calibration_goes_on_with_the_same_bits() {
    let draw = Draw::new(5);
    let mut calibration = Calibration::new(&PARTS, draw);
    let mut restored = None;
    for i in 0..6000 {
        if i == 3000 {
            let bytes = postcard::to_allocvec(&calibration).unwrap();
            restored = Some(postcard::from_bytes::<Calibration>(&bytes).unwrap());
        }
        let strangeness = strangeness(draw, i);
        let encoded = Encoded { values: vec![i as f64], ..Encoded::default() };
        let judgement = calibration.judge(&strangeness);
        calibration.learn(i, &encoded, &strangeness, &judgement);
        if let Some(restored) = &mut restored {
            assert_eq!(restored.judge(&strangeness), judgement);
            restored.learn(i, &encoded, &strangeness, &judgement);
        }
    }
    let bytes = |calibration: &Calibration| postcard::to_allocvec(calibration).unwrap();
    assert!(restored.is_some_and(|restored| bytes(&restored) == bytes(&calibration)));
}

#[test]
fn an_adoption_gives_label_learners_their_say_at_once() {
    let draw = Draw::new(6);
    let mut calibration = Calibration::new(&PARTS, draw);
    for i in 0..5000 {
        let strangeness = [strangeness(draw, i)[0], None, None];
        let judgement = calibration.judge(&strangeness);
        assert_eq!(judgement.total, judgement.parts[0], "one part alone: its own surprise");
        let encoded = Encoded { values: vec![normal(draw, 3 * i)], ..Encoded::default() };
        calibration.learn(i, &encoded, &strangeness, &judgement);
    }
    let unsupervised = |calibration: &Calibration| calibration.judge(&[Some(1.0), None, None]).unsupervised;
    let before = unsupervised(&calibration);
    assert!(before.is_some());
    calibration.adopt(&[1.0; 3], |encoded| vec![Some(encoded.values[0]), Some(-encoded.values[0])]);
    assert_eq!(unsupervised(&calibration), before, "the guard never hears of labels");
    let ordinary = calibration.judge(&[Some(0.4), Some(0.1), Some(-0.1)]).total.unwrap();
    let strange = calibration.judge(&[Some(0.4), Some(9.0), Some(-0.1)]).total.unwrap();
    assert!(ordinary < 1.0 && strange > 2.0, "{ordinary} and {strange}");
    let mut again = calibration.clone();
    again.adopt(&[1.0; 3], |encoded| vec![Some(encoded.values[0]), Some(-encoded.values[0])]);
    assert_eq!(again, calibration, "adopting the same version changes nothing");
}

#[test]
fn the_guard_holds_back_the_strange_but_for_a_leak() {
    let draw = Draw::new(7);
    let surprise = -libm::log10(GUARD_LEVEL);
    let whole = Some(Lesson::Event);
    assert!((0..1000).all(|i| [Some(surprise - 1e-9), None].iter().all(|quiet| lesson(*quiet, draw, i) == whole)));
    let strange =
        |what: Option<Lesson>| (0..100_000).filter(|i| lesson(Some(surprise + 1e-9), draw, *i) == what).count();
    let (held, leaked, entered) = (strange(None), strange(Some(Lesson::Leaked)), strange(whole));
    assert!((97_700..98_300).contains(&held) && (330..470).contains(&entered), "{held} held back, {entered} entered");
    assert_eq!(held + leaked + entered, 100_000);
}

#[test]
fn an_incident_spends_its_budget_and_no_more_and_alarms_come_back() {
    // 20 a day over 2 partitions, an event a second; two hours of the strangest events, then two days of quiet ones.
    let day = 86_400;
    let mut decider = Decider::new(DecisionSpec::AlarmBudget { alarms: 20.0, per_ms: 86_400_000.0 }, 2);
    let draw = Draw::new(8);
    let quiet = |i: i64| -libm::log10(1.0 - draw.unit(Purpose::Traffic, i as u64));
    let mut run = |range: std::ops::Range<i64>, surprise: &dyn Fn(i64) -> f64| {
        range.filter(|i| decider.decide(i * 1000, surprise(*i))).count()
    };
    let before = run(0..10 * day, &quiet);
    assert!((95..=105).contains(&before), "ten days: {before}");
    let incident = run(10 * day..10 * day + 7200, &|i| 9.0 + quiet(i));
    assert!((1..=5).contains(&incident), "the incident is seen, and is bounded: {incident}");
    let after = run(10 * day + 7200..20 * day, &quiet);
    assert!((92..=105).contains(&after), "alarms come back: {after}");
}

/// How strange event `i` of 100,000 is, by streams that make yesterday's p-values worthless.
fn drifting(kind: &str, draw: Draw, i: u64) -> f64 {
    let ordinary = normal(draw, i).powi(2);
    // Which of a hundred stretches of 1,000 events this is, and a number for the stretch.
    let stretch = draw.unit(Purpose::Reviewer, i / 1_000);
    match kind {
        // The scale rises by e^5, and falls back at once.
        "slow drift" => ordinary * libm::exp(if i < 60_000 { i as f64 / 12_000.0 } else { 0.0 }),
        "steps" => ordinary * libm::exp(8.0 * draw.unit(Purpose::Reviewer, 1_000 + i / 15_000)),
        // One stretch in seven is an incident, all its events as strange as the others.
        "bursts of ties" => {
            if stretch < 0.15 {
                1e6
            } else {
                ordinary
            }
        }
        "one long incident" => {
            if (35_000..58_000).contains(&i) {
                1e3 + ordinary
            } else {
                ordinary
            }
        }
        "heavy bursts" => {
            ordinary * if stretch < 0.3 { libm::exp(20.0 * stretch * normal(draw, i + 200_000)) } else { 1.0 }
        }
        "nothing happens" => {
            if (20_000..70_000).contains(&i) {
                0.0
            } else {
                ordinary
            }
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_budget_holds_in_every_tenth_through_drift_and_bursts() {
    const ROWS: u64 = 100_000;
    let kinds = ["slow drift", "steps", "bursts of ties", "one long incident", "heavy bursts", "nothing happens"];
    for (kind, seed) in kinds.into_iter().flat_map(|kind| [(kind, 1), (kind, 2)]) {
        let draw = Draw::for_partition(seed, kind, 0);
        // An event a second: 1 % and .2 % of them, 100 and 20 in a tenth.
        let budgets = [864.0, 172.8];
        let mut deciders =
            budgets.map(|alarms| Decider::new(DecisionSpec::AlarmBudget { alarms, per_ms: 86_400_000.0 }, 1));
        let mut alarms = [[0u32; 10]; 2];
        let mut calibration = Calibration::new(&PARTS[..1], draw);
        for i in 0..ROWS + 1_000 {
            // The first thousand warm up.
            let strangeness = [Some(if i < 1_000 { normal(draw, i).powi(2) } else { drifting(kind, draw, i - 1_000) })];
            let judgement = calibration.judge(&strangeness);
            if i >= 1_000 {
                let surprise = judgement.total.expect("calibrated");
                for (decider, alarms) in deciders.iter_mut().zip(&mut alarms) {
                    alarms[((i - 1_000) * 10 / ROWS) as usize] += u32::from(decider.decide(i as i64 * 1_000, surprise));
                }
            }
            calibration.learn(i, &Encoded::default(), &strangeness, &judgement);
        }
        for (budget, alarms) in budgets.iter().zip(alarms) {
            let due = budget / 86_400.0 * ROWS as f64 / 10.0;
            for found in alarms {
                assert!((f64::from(found) / due - 1.0).abs() <= 0.2, "{kind}, seed {seed}: {alarms:?} of {due}");
            }
        }
    }
}

#[test]
fn an_incident_alarms_at_once_whatever_was_spent_before() {
    let mut decider = Decider::new(DecisionSpec::AlarmBudget { alarms: 864.0, per_ms: 86_400_000.0 }, 1);
    let draw = Draw::new(9);
    let (mut missed, mut most) = (0, 0);
    for i in 0..400_000i64 {
        // A hundred incidents of 100 events, some 40 alarms apart.
        let (incident, ordinary) = (i % 4_000 >= 3_900, -libm::log10(1.0 - draw.unit(Purpose::Traffic, i as u64)));
        let alarm = decider.decide(i * 1_000, if incident { 12.0 } else { ordinary });
        missed += u32::from(i % 4_000 == 3_900 && !alarm);
        most += u32::from(incident && alarm);
    }
    assert!(missed == 0, "{missed} of 100");
    assert!((200..=400).contains(&most), "a few alarms for each: {most}");
}

#[test]
fn the_first_events_after_a_night_without_any_are_not_taken_for_strange() {
    let mut decider = Decider::new(DecisionSpec::AlarmBudget { alarms: 20.0, per_ms: 86_400_000.0 }, 1);
    let draw = Draw::new(10);
    let (mut in_the_morning, mut all) = (0, 0);
    for i in 0..50 * 43_200i64 {
        // An event a second for twelve hours, then nothing for twelve.
        let (day, second) = (i / 43_200, i % 43_200);
        let surprise = -libm::log10(1.0 - draw.unit(Purpose::Traffic, i as u64));
        let alarm = decider.decide((day * 86_400 + second) * 1_000, surprise);
        in_the_morning += u32::from(alarm && second < 300);
        all += u32::from(alarm);
    }
    assert!(in_the_morning <= 20, "in the first five minutes of 50 days: {in_the_morning}");
    assert!((450..=650).contains(&all), "half of the day earns half of the budget: {all}");
}

#[test]
fn time_that_stands_still_or_goes_back_earns_nothing() {
    let mut decider = Decider::new(DecisionSpec::AlarmBudget { alarms: 1.0, per_ms: 1000.0 }, 1);
    assert!((0..1000).all(|_| !decider.decide(5, 30.0)));
    assert!((0..1000).all(|i| !decider.decide(-i, 30.0)));
}

#[test]
fn a_wrong_clock_does_not_silence_a_budget() {
    let mut decider = Decider::new(DecisionSpec::AlarmBudget { alarms: 864.0, per_ms: 86_400_000.0 }, 1);
    let draw = Draw::new(11);
    // An event a second; one of them is dated seventy years ahead.
    let mut run = |events: std::ops::Range<i64>| {
        let alarms = events.filter(|i| {
            let time_ms = i * 1_000 + if *i == 100_000 { 2_200_000_000_000 } else { 0 };
            decider.decide(time_ms, -libm::log10(1.0 - draw.unit(Purpose::Traffic, *i as u64)))
        });
        alarms.count()
    };
    let (before, after) = (run(0..100_000), run(100_000..200_000));
    assert!((980..=1_020).contains(&before) && (980..=1_020).contains(&after), "{before} alarms, then {after}");
}

#[test]
fn after_a_wrong_clock_a_pause_is_one_again() {
    let mut decider = Decider::new(DecisionSpec::AlarmBudget { alarms: 1.0, per_ms: 3_600_000.0 }, 1);
    // An event a second, all of them strange; after an hour one is dated seventy years ahead.
    for i in 0..7_200i64 {
        decider.decide(i * 1_000 + if i == 3_600 { 2_200_000_000_000 } else { 0 }, 12.0);
    }
    assert!(!decider.decide(7_200_000, 12.0), "the budget is spent");
    assert!(decider.decide(7_200_000 + 86_400_000, 12.0), "a pause earns an alarm");
}

#[test]
fn events_of_another_day_between_those_of_today_earn_no_more_alarms() {
    let mut decider = Decider::new(DecisionSpec::AlarmBudget { alarms: 864.0, per_ms: 86_400_000.0 }, 1);
    // 200 events of today, 200 of yesterday, and so on; all of them strange.
    let alarms = (0..200_000i64).filter(|i| {
        let of_yesterday = i / 200 % 2 == 1;
        decider.decide(i * 500 - if of_yesterday { 86_400_000 } else { 0 }, 12.0)
    });
    let alarms = alarms.count();
    // What passes of yesterday earns, too: that is a quarter.
    assert!((900..=1_300).contains(&alarms), "{alarms} alarms of 1,000 in 100,000 s");
}

#[test]
fn a_threshold_is_on_the_score() {
    let mut decider = Decider::new(DecisionSpec::Threshold(0.5), 4);
    assert!(decider.decide(0, 3.0) && !decider.decide(0, 2.999));
}
