"""Fixtures of the steering tests."""

from __future__ import annotations

import pytest
import torch
from steering_models import CONFIG, save_llama

from mi_course.interp.models import load_model, small_model


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    save_llama(folder)
    return folder


@pytest.fixture(scope="session")
def tied_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tied")
    save_llama(folder, tied=True)
    return folder


@pytest.fixture(scope="session")
def llama(llama_folder):
    return load_model(llama_folder)


@pytest.fixture(scope="session")
def native():
    return small_model(CONFIG, seed=0)


@pytest.fixture(autouse=True)
def one_thread(request):
    """Tiny models on one thread: with two, every little product waits at a barrier, for long on a busy machine."""
    before = torch.get_num_threads()
    if request.node.get_closest_marker("real_model") is None:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
