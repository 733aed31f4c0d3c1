//! Exact numbers: quotients of sums of products of rationals, roots of integers, π and letters.
//!
//! ```text
//! value = P / Q      P, Q = Σ c · ∏ atom^e      c rational; atom = prime (0 < e < 1), π or letter (e = 1, 2, …)
//! equal: P₁·Q₂ − P₂·Q₁ = 0
//! ```
//! Products of different fractional powers of primes are linearly independent over the rationals (Besicovitch 1940), π is transcendental and
//! letters are free, so a sum is zero exactly when all its coefficients are: no floating point, no search. Everything that does not fit (overflow of
//! 128 bits, a root of a sum, a power that is not rational) is none, "not decided", never a guess.

use std::collections::BTreeMap;

/// Most terms of a sum.
const MAX_TERMS: usize = 256;
/// Largest integer power.
const MAX_POWER: i128 = 64;
/// Trial division stops here; a cofactor below its square is prime.
const MAX_DIVISOR: i128 = 100_000;

/// A reduced fraction with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ratio {
    numerator: i128,
    denominator: i128,
}

impl Ratio {
    pub(super) fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let divisor = gcd(numerator.checked_abs()?, denominator.checked_abs()?).max(1) * denominator.signum();
        Some(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    fn whole(value: i128) -> Self {
        Self { numerator: value, denominator: 1 }
    }

    fn add(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    fn mul(self, other: Self) -> Option<Self> {
        Self::new(self.numerator.checked_mul(other.numerator)?, self.denominator.checked_mul(other.denominator)?)
    }

    fn is_zero(self) -> bool {
        self.numerator == 0
    }

    /// The value of a whole number.
    pub(super) fn as_whole(self) -> Option<i128> {
        (self.denominator == 1).then_some(self.numerator)
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Something that no rational combination of the others equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Atom {
    Prime(i128),
    Pi,
    Letter(char),
}

type Monomial = BTreeMap<Atom, Ratio>;

/// A sum of monomials; the empty sum is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sum(BTreeMap<Monomial, Ratio>);

impl Sum {
    fn rational(value: Ratio) -> Self {
        Self(if value.is_zero() { BTreeMap::new() } else { BTreeMap::from([(Monomial::new(), value)]) })
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn insert(&mut self, monomial: Monomial, coefficient: Ratio) -> Option<()> {
        let sum = match self.0.get(&monomial) {
            Some(old) => old.add(coefficient)?,
            None => coefficient,
        };
        if sum.is_zero() {
            self.0.remove(&monomial);
        } else {
            self.0.insert(monomial, sum);
        }
        (self.0.len() <= MAX_TERMS).then_some(())
    }

    fn add(&self, other: &Self) -> Option<Self> {
        let mut sum = self.clone();
        for (monomial, coefficient) in &other.0 {
            sum.insert(monomial.clone(), *coefficient)?;
        }
        Some(sum)
    }

    fn mul(&self, other: &Self) -> Option<Self> {
        let mut product = Self(BTreeMap::new());
        for (left, a) in &self.0 {
            for (right, b) in &other.0 {
                let (monomial, carried) = multiply(left, right)?;
                product.insert(monomial, a.mul(*b)?.mul(carried)?)?;
            }
        }
        Some(product)
    }
}

/// Product of two monomials; whole powers of primes are carried into the coefficient.
fn multiply(left: &Monomial, right: &Monomial) -> Option<(Monomial, Ratio)> {
    let mut product = left.clone();
    let mut carried = Ratio::whole(1);
    for (atom, power) in right {
        let power = match product.remove(atom) {
            Some(old) => old.add(*power)?,
            None => *power,
        };
        let fraction = match atom {
            Atom::Prime(prime) => {
                let whole = power.numerator.div_euclid(power.denominator);
                carried = carried.mul(Ratio::whole(prime.checked_pow(u32::try_from(whole).ok()?)?))?;
                power.add(Ratio::whole(-whole))?
            }
            Atom::Pi | Atom::Letter(_) => power,
        };
        if !fraction.is_zero() {
            product.insert(*atom, fraction);
        }
    }
    Some((product, carried))
}

/// An exact number or expression.
#[derive(Clone, Debug)]
pub(super) struct Value {
    numerator: Sum,
    denominator: Sum,
}

impl Value {
    pub(super) fn rational(value: Ratio) -> Self {
        Self { numerator: Sum::rational(value), denominator: Sum::rational(Ratio::whole(1)) }
    }

    fn atom(atom: Atom, power: Ratio) -> Self {
        let sum = Sum(BTreeMap::from([(Monomial::from([(atom, power)]), Ratio::whole(1))]));
        Self { numerator: sum, denominator: Sum::rational(Ratio::whole(1)) }
    }

    pub(super) fn pi() -> Self {
        Self::atom(Atom::Pi, Ratio::whole(1))
    }

    pub(super) fn letter(letter: char) -> Self {
        Self::atom(Atom::Letter(letter), Ratio::whole(1))
    }

    pub(super) fn negate(&self) -> Option<Self> {
        self.mul(&Self::rational(Ratio::whole(-1)))
    }

    pub(super) fn add(&self, other: &Self) -> Option<Self> {
        let left = self.numerator.mul(&other.denominator)?;
        let right = other.numerator.mul(&self.denominator)?;
        Some(Self { numerator: left.add(&right)?, denominator: self.denominator.mul(&other.denominator)? })
    }

    pub(super) fn mul(&self, other: &Self) -> Option<Self> {
        Some(Self { numerator: self.numerator.mul(&other.numerator)?, denominator: self.denominator.mul(&other.denominator)? })
    }

    /// None when `other` is zero.
    pub(super) fn div(&self, other: &Self) -> Option<Self> {
        if other.numerator.is_zero() {
            return None;
        }
        self.mul(&Self { numerator: other.denominator.clone(), denominator: other.numerator.clone() })
    }

    /// Whether the two are equal; none when that cannot be decided.
    pub(super) fn equals(&self, other: &Self) -> Option<bool> {
        Some(self.numerator.mul(&other.denominator)? == other.numerator.mul(&self.denominator)?)
    }

    /// The value of a rational constant.
    pub(super) fn as_ratio(&self) -> Option<Ratio> {
        let constant = |sum: &Sum| match sum.0.len() {
            0 => Some(Ratio::whole(0)),
            1 => sum.0.get(&Monomial::new()).copied(),
            _ => None,
        };
        let (numerator, denominator) = (constant(&self.numerator)?, constant(&self.denominator)?);
        numerator.mul(Ratio::new(denominator.denominator, denominator.numerator)?)
    }

    /// `self` to a rational power.
    pub(super) fn power(&self, exponent: Ratio) -> Option<Self> {
        if exponent.numerator.checked_abs()? > MAX_POWER {
            return None;
        }
        let base = if exponent.denominator == 1 { self.clone() } else { self.root(exponent.denominator)? };
        let mut product = Self::rational(Ratio::whole(1));
        for _ in 0..exponent.numerator.abs() {
            product = product.mul(&base)?;
        }
        if exponent.numerator < 0 {
            return Self::rational(Ratio::whole(1)).div(&product);
        }
        Some(product)
    }

    /// The positive n-th root of a positive rational, or of one times roots of integers.
    pub(super) fn root(&self, n: i128) -> Option<Self> {
        if !(1..=MAX_POWER).contains(&n) {
            return None;
        }
        if self.numerator.is_zero() {
            return Some(self.clone());
        }
        root_of_term(&self.numerator, n)?.div(&root_of_term(&self.denominator, n)?)
    }

    /// n! of a small whole number.
    pub(super) fn factorial(&self) -> Option<Self> {
        let n = self.as_ratio()?.as_whole().filter(|n| (0..=33).contains(n))?;
        Some(Self::rational(Ratio::whole((1..=n).product())))
    }
}

fn root_of_term(sum: &Sum, n: i128) -> Option<Value> {
    let (monomial, coefficient) = sum.0.first_key_value().filter(|_| sum.0.len() == 1)?;
    if coefficient.numerator <= 0 {
        return None;
    }
    let mut root = root_of_whole(coefficient.numerator, n)?.div(&root_of_whole(coefficient.denominator, n)?)?;
    for (atom, power) in monomial {
        let Atom::Prime(_) = atom else { return None }; // √(x²) is |x|
        root = root.mul(&Value::atom(*atom, power.mul(Ratio::new(1, n)?)?))?;
    }
    Some(root)
}

fn root_of_whole(value: i128, n: i128) -> Option<Value> {
    let mut root = Value::rational(Ratio::whole(1));
    for (prime, count) in factorize(value)? {
        let whole = Value::rational(Ratio::whole(prime.checked_pow(u32::try_from(count / n).ok()?)?));
        root = root.mul(&whole)?;
        if count % n != 0 {
            root = root.mul(&Value::atom(Atom::Prime(prime), Ratio::new(count % n, n)?))?;
        }
    }
    Some(root)
}

/// Prime factors with their counts; none when a factor is too large to be found.
fn factorize(mut value: i128) -> Option<Vec<(i128, i128)>> {
    let mut factors = Vec::new();
    let mut divisor = 2;
    while divisor * divisor <= value {
        if divisor > MAX_DIVISOR {
            return None;
        }
        let mut count = 0;
        while value % divisor == 0 {
            value /= divisor;
            count += 1;
        }
        if count > 0 {
            factors.push((divisor, count));
        }
        divisor += 1;
    }
    if value > 1 {
        factors.push((value, 1));
    }
    Some(factors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(n: i128) -> Value {
        Value::rational(Ratio::whole(n))
    }

    #[test]
    fn nested_and_mixed_roots_are_reduced() {
        // √(√16) = 2; √2·∛2 = 2^(5/6); √12 = 2√3
        assert_eq!(whole(16).root(2).unwrap().root(2).unwrap().equals(&whole(2)), Some(true));
        let product = whole(2).root(2).unwrap().mul(&whole(2).root(3).unwrap()).unwrap();
        assert_eq!(product.equals(&whole(2).power(Ratio::new(5, 6).unwrap()).unwrap()), Some(true));
        assert_eq!(whole(12).root(2).unwrap().equals(&whole(2).mul(&whole(3).root(2).unwrap()).unwrap()), Some(true));
    }

    #[test]
    fn denominators_with_roots_need_no_rationalising() {
        // 1/(√2 − 1) = √2 + 1
        let root = whole(2).root(2).unwrap();
        let left = whole(1).div(&root.add(&whole(-1)).unwrap()).unwrap();
        assert_eq!(left.equals(&root.add(&whole(1)).unwrap()), Some(true));
        assert_eq!(left.equals(&root), Some(false));
    }

    #[test]
    fn what_does_not_fit_is_not_decided() {
        assert!(whole(-4).root(2).is_none());
        assert!(Value::letter('x').root(2).is_none());
        assert!(whole(1).div(&whole(0)).is_none());
        assert!(whole(i128::MAX).mul(&whole(2)).is_none());
        assert!(whole(40).factorial().is_none());
        assert!(whole(10).power(Ratio::whole(65)).is_none());
    }
}
