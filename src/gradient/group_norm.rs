//! Normalisation of groups of channels by their own mean and variance.

use super::array::FloatArray;
use super::broadcast::{sum_to, zip};
use super::function::{Arguments, Evaluated, Function, Misfit, operand, wants};
use super::norm::LayerNorm;

/// (x − mean) / √(variance + ε) · scale + bias, moments over the places and channels of each group of a sample (Wu and He 2018;
/// with one channel a group, instance normalisation, Ulyanov et al. 2016). Operands: x (batch × channels × places), scale and
/// bias, a number for each channel or for each group.
pub struct GroupedNorm {
    /// How many groups; `None`: one for each channel.
    pub groups: Option<usize>,
    /// ε.
    pub epsilon: f32,
}

impl GroupedNorm {
    fn rows(&self) -> LayerNorm {
        LayerNorm {
            axis: -1,
            epsilon: self.epsilon,
            is_centred: true,
        }
    }

    /// Groups of a sample as rows. Errors: channels that do not divide.
    fn grouped(&self, x: &FloatArray) -> Result<FloatArray, Misfit> {
        let [batch, channels, places @ ..] = &x.dims[..] else {
            return Err(Misfit(format!("{:?} has no channels", x.dims)));
        };
        let groups = self.groups.unwrap_or(*channels);
        if groups == 0 || channels % groups != 0 {
            return Err(Misfit(format!("{channels} channels in {groups} groups")));
        }
        let row = channels / groups * places.iter().product::<usize>();
        Ok(x.clone().reshaped(vec![batch * groups, row]))
    }

    /// Numbers of channels, or of groups, as an array that goes with the data. Errors: neither so many.
    fn by_channel(numbers: &FloatArray, x: &FloatArray) -> Result<FloatArray, Misfit> {
        let (channels, given) = (x.dims[1], numbers.data.len());
        if given == 0 || channels % given != 0 {
            return Err(Misfit(format!("{given} numbers for {channels} channels")));
        }
        let each = channels / given;
        let repeated = numbers
            .data
            .iter()
            .flat_map(|number| std::iter::repeat_n(*number, each));
        let mut dims = vec![1; x.dims.len() - 1];
        dims[0] = channels;
        Ok(FloatArray::new(dims, repeated.collect()))
    }

    /// The transpose of that: sums over samples, places, and the channels of a number.
    fn sums(gradient: FloatArray, numbers: &FloatArray) -> FloatArray {
        let mut dims = vec![1; gradient.dims.len() - 1];
        dims[0] = gradient.dims[1];
        let sums = sum_to(gradient, &dims);
        let each = (sums.data.len() / numbers.data.len().max(1)).max(1);
        let data = sums.data.chunks(each).map(|group| group.iter().sum());
        FloatArray::new(numbers.dims.clone(), data.collect())
    }
}

impl Function for GroupedNorm {
    fn value(&self, inputs: &Arguments) -> Result<FloatArray, Misfit> {
        let x = operand(inputs, 0)?;
        let (normalised, _) = self.rows().normalised(&self.grouped(x)?)?;
        let scale = Self::by_channel(operand(inputs, 1)?, x)?;
        let bias = Self::by_channel(operand(inputs, 2)?, x)?;
        let scaled = zip(&normalised.reshaped(x.dims.clone()), &scale, |x, scale| {
            x * scale
        })?;
        zip(&scaled, &bias, |x, bias| x + bias)
    }

    fn pull_back(&self, point: &Evaluated, wanted: &[bool]) -> Vec<Option<FloatArray>> {
        let back = || {
            let (x, scale, bias) = (point.input(0)?, point.input(1)?, point.input(2)?);
            let rows = self.rows();
            let (normalised, factors) = rows.normalised(&self.grouped(x).ok()?).ok()?;
            let by_channel = Self::by_channel(scale, x).ok()?;
            let scaled = zip(point.gradient, &by_channel, |gradient, scale| {
                gradient * scale
            });
            let scaled = scaled.ok()?.reshaped(normalised.dims.clone());
            let by_data = wants(wanted, 0).then(|| {
                let by_data = rows.by_data(&normalised, &factors, scaled);
                by_data.reshaped(x.dims.clone())
            });
            let normalised = normalised.clone().reshaped(x.dims.clone());
            let product = zip(point.gradient, &normalised, |gradient, x| gradient * x).ok()?;
            Some(vec![
                by_data,
                wants(wanted, 1).then(|| Self::sums(product, scale)),
                wants(wanted, 2).then(|| Self::sums(point.gradient.clone(), bias)),
            ])
        };
        back().unwrap_or_default()
    }
}
