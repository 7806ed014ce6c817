//! Logarithms and the exponential to the last bit as Java's `StrictMath` gives them.
//!
//! Owns: the algorithms of fdlibm (Sun Microsystems, 1993), which Java prescribes. Does not own: the
//! functions of the dialect (`math`).
//! Rule: the order of operations is that of fdlibm: another order gives other last bits.

#![allow(
    clippy::approx_constant,
    clippy::excessive_precision,
    reason = "constants are written with the digits of fdlibm"
)]

const LN2_HI: f64 = 6.931_471_803_691_238_164_90e-01;
const LN2_LO: f64 = 1.908_214_929_270_587_700_02e-10;
const TWO_54: f64 = 1.801_439_850_948_198_400_00e+16;

fn high(value: f64) -> i32 {
    (value.to_bits() >> 32) as i32
}

fn with_high(value: f64, high: i32) -> f64 {
    let low = value.to_bits() & 0xFFFF_FFFF;
    f64::from_bits((u64::from(high as u32) << 32) | low)
}

/// The natural logarithm of a positive number.
pub(super) fn ln(value: f64) -> f64 {
    const LG: [f64; 7] = [
        6.666_666_666_666_735_130e-01,
        3.999_999_999_940_941_908e-01,
        2.857_142_874_366_239_149e-01,
        2.222_219_843_214_978_396e-01,
        1.818_357_216_161_805_012e-01,
        1.531_383_769_920_937_332e-01,
        1.479_819_860_511_658_591e-01,
    ];
    if value.is_nan() || value <= 0.0 || value.is_infinite() {
        return value.ln();
    }
    let mut x = value;
    let mut k = 0;
    let mut hx = high(x);
    if hx < 0x0010_0000 {
        k -= 54;
        x *= TWO_54;
        hx = high(x);
    }
    k += (hx >> 20) - 1023;
    hx &= 0x000f_ffff;
    let i = (hx + 0x95f64) & 0x10_0000;
    x = with_high(x, hx | (i ^ 0x3ff0_0000));
    k += i >> 20;
    let f = x - 1.0;
    let dk = f64::from(k);
    if (0x000f_ffff & (2 + hx)) < 3 {
        if f == 0.0 {
            return if k == 0 {
                0.0
            } else {
                dk * LN2_HI + dk * LN2_LO
            };
        }
        let r = f * f * (0.5 - 0.333_333_333_333_333_33 * f);
        return if k == 0 {
            f - r
        } else {
            dk * LN2_HI - ((r - dk * LN2_LO) - f)
        };
    }
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let t1 = w * (LG[1] + w * (LG[3] + w * LG[5]));
    let t2 = z * (LG[0] + w * (LG[2] + w * (LG[4] + w * LG[6])));
    let r = t2 + t1;
    if ((hx - 0x6147a) | (0x6b851 - hx)) > 0 {
        let half = 0.5 * f * f;
        if k == 0 {
            f - (half - s * (half + r))
        } else {
            dk * LN2_HI - ((half - (s * (half + r) + dk * LN2_LO)) - f)
        }
    } else if k == 0 {
        f - s * (f - r)
    } else {
        dk * LN2_HI - ((s * (f - r) - dk * LN2_LO) - f)
    }
}

/// The logarithm to base 10 of a positive number.
pub(super) fn log10(value: f64) -> f64 {
    const IVLN10: f64 = 4.342_944_819_032_518_166_68e-01;
    const LOG10_2_HI: f64 = 3.010_299_956_636_117_713_06e-01;
    const LOG10_2_LO: f64 = 3.694_239_077_158_930_786_16e-13;
    if value.is_nan() || value <= 0.0 || value.is_infinite() {
        return value.log10();
    }
    let mut x = value;
    let mut k = 0;
    let mut hx = high(x);
    if hx < 0x0010_0000 {
        k -= 54;
        x *= TWO_54;
        hx = high(x);
    }
    k += (hx >> 20) - 1023;
    let i = i32::from(k < 0);
    hx = (hx & 0x000f_ffff) | ((0x3ff - i) << 20);
    let y = f64::from(k + i);
    x = with_high(x, hx);
    let z = y * LOG10_2_LO + IVLN10 * ln(x);
    z + y * LOG10_2_HI
}

/// The exponential.
pub(super) fn exp(value: f64) -> f64 {
    const HALF: [f64; 2] = [0.5, -0.5];
    const INV_LN2: f64 = 1.442_695_040_888_963_387_00;
    const P: [f64; 5] = [
        1.666_666_666_666_660_190_37e-01,
        -2.777_777_777_701_559_338_42e-03,
        6.613_756_321_437_934_361_17e-05,
        -1.653_390_220_546_525_153_90e-06,
        4.138_136_797_057_238_460_39e-08,
    ];
    if value.is_nan() || value.is_infinite() {
        return value.exp();
    }
    if value > 7.097_827_128_933_839_730_96e+02 {
        return f64::INFINITY;
    }
    if value < -7.451_332_191_019_411_084_20e+02 {
        return 0.0;
    }
    let negative = usize::from(value < 0.0);
    let hx = high(value) & 0x7fff_ffff;
    let mut x = value;
    let mut hi = 0.0;
    let mut lo = 0.0;
    let mut k = 0;
    if hx > 0x3fd6_2e42 {
        if hx < 0x3FF0_A2B2 {
            let sign = if negative == 1 { -1.0 } else { 1.0 };
            hi = x - sign * LN2_HI;
            lo = sign * LN2_LO;
            k = 1 - 2 * negative as i32;
        } else {
            k = (INV_LN2 * x + HALF[negative]) as i32;
            let t = f64::from(k);
            hi = x - t * LN2_HI;
            lo = t * LN2_LO;
        }
        x = hi - lo;
    } else if hx < 0x3e30_0000 {
        return 1.0 + x;
    }
    let t = x * x;
    let c = x - t * (P[0] + t * (P[1] + t * (P[2] + t * (P[3] + t * P[4]))));
    if k == 0 {
        return 1.0 - ((x * c) / (c - 2.0) - x);
    }
    let y = 1.0 - ((lo - (x * c) / (2.0 - c)) - hi);
    if k >= -1021 {
        return with_high(y, high(y).wrapping_add(k << 20));
    }
    let small = with_high(y, high(y).wrapping_add((k + 1000) << 20));
    small * f64::from_bits(0x0170_0000_0000_0000)
}
