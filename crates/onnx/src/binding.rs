use std::sync::Arc;

use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::IoBinding,
    value::{Tensor as OrtTensor, ValueTypeMarker},
};

use crate::{Error, Outputs, Session, Tensor, session::run_error};

/// Inputs and outputs that stay bound from run to run.
///
/// A key–value cache is bound once as `past` and as `present`, so that each run writes into it in place and
/// nothing of it is ever copied.
#[derive(Debug)]
pub struct Binding {
    inner: IoBinding,
}

/// A tensor of 32-bit floats in the runtime's own memory.
#[derive(Debug)]
pub struct DeviceTensor {
    inner: OrtTensor<f32>,
}

impl DeviceTensor {
    /// Allocates a tensor filled with zeros.
    pub fn zeros(shape: &[usize]) -> Result<Self, Error> {
        let mut inner = OrtTensor::<f32>::new(&Allocator::default(), shape).map_err(Error::runtime("allocate a tensor"))?;
        inner.extract_tensor_mut().1.fill(0.0);
        Ok(Self { inner })
    }

    /// Its values, row by row.
    pub fn values(&self) -> &[f32] {
        self.inner.extract_tensor().1
    }

    /// Its values, row by row, to be changed between runs.
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.inner.extract_tensor_mut().1
    }
}

impl Binding {
    /// An empty binding of a session.
    pub fn new(session: &Session) -> Result<Self, Error> {
        Ok(Self { inner: session.inner.create_binding().map_err(Error::runtime("make a binding"))? })
    }

    /// Binds one tensor as an input and as an output at once: the graph reads it and writes it in place.
    pub fn bind_in_place(&mut self, input: &str, output: &str, tensor: &mut DeviceTensor) -> Result<(), Error> {
        self.inner.bind_output(output, &mut tensor.inner).map_err(named(output))?;
        self.inner.bind_input(input, &tensor.inner).map_err(named(input))
    }

    /// Binds an input to the values that a tensor has now.
    pub fn bind_input(&mut self, name: &str, tensor: Tensor) -> Result<(), Error> {
        fn bind<T: ValueTypeMarker + ?Sized>(
            binding: &mut IoBinding,
            name: &str,
            value: Result<ort::value::Value<T>, ort::Error>,
        ) -> Result<(), Error> {
            binding.bind_input(name, &value.map_err(named(name))?).map_err(named(name))
        }
        let binding = &mut self.inner;
        match tensor {
            Tensor::I64(array) => bind(binding, name, OrtTensor::from_array(array)),
            Tensor::I32(array) => bind(binding, name, OrtTensor::from_array(array)),
            Tensor::F32(array) => bind(binding, name, OrtTensor::from_array(array)),
            Tensor::Bool(array) => bind(binding, name, OrtTensor::from_array(array)),
            other => Err(Error::tensor(name, format!("inputs of type {:?} cannot be bound", other.element_type()))),
        }
    }

    /// Lets the runtime allocate an output in the processor's memory, of whatever shape it comes out with.
    pub fn bind_output(&mut self, name: &str) -> Result<(), Error> {
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput).map_err(named(name))?;
        self.inner.bind_output_to_device(name, &memory).map_err(named(name))
    }

    /// Runs the session with what is bound. The outputs hold those of [`Self::bind_output`] and of
    /// [`Self::bind_in_place`].
    pub fn run<'a>(&'a self, session: &'a mut Session) -> Result<Outputs<'a>, Error> {
        let options = Arc::clone(&session.options);
        session.inner.run_binding_with_options(&self.inner, &options).map(Outputs).map_err(|error| run_error("a bound graph", &error))
    }
}

fn named<R>(name: &str) -> impl FnOnce(ort::Error<R>) -> Error {
    let name = name.to_owned();
    move |error| Error::Tensor { name, reason: error.message().to_owned() }
}
