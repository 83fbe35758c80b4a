use std::sync::Arc;

use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, NoSelectedOutputs, RunOptions},
    value::{DynValue, Tensor as OrtTensor, ValueTypeMarker},
};

use crate::{Error, Outputs, Session, Tensor, session::run_error};

/// Inputs and outputs that stay bound from run to run.
#[derive(Debug)]
pub(crate) struct Binding {
    inner: IoBinding,
}

impl Binding {
    /// An empty binding of a session.
    pub(crate) fn new(session: &Session) -> Result<Self, Error> {
        Ok(Self { inner: session.inner.create_binding().map_err(Error::runtime("make a binding"))? })
    }

    /// Binds one tensor as an input and as an output at once: the graph reads it and writes it in place.
    pub(crate) fn bind_in_place(&mut self, input: &str, output: &str, mut tensor: DynValue) -> Result<(), Error> {
        self.inner.bind_input(input, &tensor).map_err(named(input))?;
        self.inner.bind_output(output, &mut tensor).map_err(named(output))
    }

    /// Binds an input to a tensor that lies where the graph reads it.
    pub(crate) fn bind_value(&mut self, name: &str, tensor: &DynValue) -> Result<(), Error> {
        self.inner.bind_input(name, tensor).map_err(named(name))
    }

    /// Lets the graph write an output into this tensor.
    pub(crate) fn bind_output_value(&mut self, name: &str, mut tensor: DynValue) -> Result<(), Error> {
        self.inner.bind_output(name, &mut tensor).map_err(named(name))
    }

    /// Binds an input to the values that a tensor has now.
    pub(crate) fn bind_input(&mut self, name: &str, tensor: Tensor) -> Result<(), Error> {
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
            Tensor::F16(array) => bind(binding, name, OrtTensor::from_array(array)),
            Tensor::F32(array) => bind(binding, name, OrtTensor::from_array(array)),
            Tensor::Bool(array) => bind(binding, name, OrtTensor::from_array(array)),
            other => Err(Error::tensor(name, format!("inputs of type {:?} cannot be bound", other.element_type()))),
        }
    }

    /// Lets the runtime allocate an output in the processor's memory, of whatever shape it comes out with.
    pub(crate) fn bind_output(&mut self, name: &str) -> Result<(), Error> {
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput).map_err(named(name))?;
        self.inner.bind_output_to_device(name, &memory).map_err(named(name))
    }

    /// Runs the session with what is bound. The outputs hold those of [`Self::bind_output`] and of
    /// [`Self::bind_in_place`].
    pub(crate) fn run<'a>(&'a self, session: &'a mut Session) -> Result<Outputs<'a>, Error> {
        let options = Arc::clone(&session.options);
        self.run_with(session, &options)
    }

    /// The same with options of one's own.
    pub(crate) fn run_with<'a>(&'a self, session: &'a mut Session, options: &RunOptions<NoSelectedOutputs>) -> Result<Outputs<'a>, Error> {
        session.inner.run_binding_with_options(&self.inner, options).map(Outputs).map_err(|error| run_error("a bound graph", &error))
    }
}

fn named<R>(name: &str) -> impl FnOnce(ort::Error<R>) -> Error {
    let name = name.to_owned();
    move |error| Error::Tensor { name, reason: error.message().to_owned() }
}
