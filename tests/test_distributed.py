"""Training by several processes, really launched: equal to one, recorded once, stopped and resumed with any number of them; FSDP; the files of configs/accelerate."""
import json, os, shlex, shutil, socket, subprocess, sys
from pathlib import Path
import pytest, torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from accelerate import FullyShardedDataParallelPlugin
from safetensors.torch import load_file
from iad_nb.core import Run
from iad_nb.learner import _Loss, latest_checkpoint
from iad_nb.models.region import RegionExpert
from iad_nb import recipes

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT/"configs"/"accelerate"
ENV = {k: v for k, v in os.environ.items() if k != "IAD_RUNS"} | dict(TQDM_DISABLE="1", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
SIZES = "data.size=32 data.images=48 train.batch_size=8 train.steps=12 train.warmup=2 train.precision=fp32 train.save_every=100 train.ema=.9 validate=8 model.width=16 model.stem=[8,16] model.resolution=32 model.jitter=0".split()
# the command line, but each process writes down what it sees, and at step STOP the last one interrupts its launcher
SEEN = '''
import os, signal, sys, time
from iad_nb.cli import main
from iad_nb.learner import Learner
from iad_nb.models.region import RegionExpert
rank, loss, step = os.environ["RANK"], RegionExpert.loss, Learner.train_step
def seen(self, batch):
    with open(os.environ["SEEN"] + rank, "a") as f: f.write("".join(f"{i}\\n" for i in batch["id"]))
    return loss(self, batch)
def stopped(self, batches):
    if "STOP" in os.environ:
        time.sleep(.5)
        if self.step == int(os.environ["STOP"]) and rank == "1": os.kill(os.getppid(), signal.SIGINT)
    return step(self, batches)
RegionExpert.loss, Learner.train_step = seen, stopped
main()
'''
# a few steps by FSDP; Accelerate takes it for accelerators only, so that it is told that these are some
SHARD = '''
import sys, torch
import iad_nb.learner
from accelerate.utils import DistributedType
from iad_nb.data.loading import Batches, Items
from iad_nb.data.surface import World
from iad_nb.learner import Learner, TrainConfig, processes
from iad_nb.models.region import RegionExpert, RegionExpertConfig
def train(run, steps, **kwargs):
    torch.manual_seed(0)
    model = RegionExpert(RegionExpertConfig.tiny(stem=[8, 16], width=16, jitter=0.))
    return Learner(model, Batches(Items(World("train", 32, 1, n=32), 32), 8, 1), TrainConfig(steps=steps, schedule="constant", batch_size=8, warmup=2, ema=.9, accumulate=2), run, cpu=True, **kwargs)
if __name__ == "__main__":
    def as_accelerators(cpu=False): s = processes(cpu); s._shared_state["distributed_type"] = DistributedType.MULTI_GPU; return s
    iad_nb.learner.processes = as_accelerators
    l = train(sys.argv[1], int(sys.argv[2]))
    assert l.sharded and all(hasattr(p, "full_tensor") for p in l.model.parameters() if p.requires_grad)
    first = next(p for p in l.model.parameters() if p.ndim > 1); assert first.to_local().numel() < first.numel()
    model = l.fit()
    assert (model is None) != l.acc.is_main_process
    if model is not None: model.save_pretrained(sys.argv[1] + "/model")
'''

def launch(*args, config="cpu2", **env):
    "Start `accelerate launch` with one of our files."
    return subprocess.Popen([sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS/f"{config}.yaml", *map(str, args)], env=ENV | env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def finish(*launched, code=0):
    "Wait for launchers; returns their output."
    said = [p.communicate(timeout=900) for p in launched]
    assert all((p.returncode == 0) == (code == 0) for p in launched), "\n".join(s[1][-3000:] for s in said)
    return ["".join(s) for s in said]

def alone(train, run): return recipes.train(recipes.get_recipe(train[1], train[2:-1]), run, cpu=True)
def state(run): return {part: load_file(latest_checkpoint(run/"checkpoint")/f"{part}.safetensors") for part in ("model", "ema", "optimizer")}
def losses(run): return [r["loss"] for r in Run(run).rows()]
def gap(a, b): return max(float((t - b[part][k]).abs().max()) for part in a for k, t in a[part].items())

@pytest.fixture(scope="module")
def place(tmp_path_factory):
    p = tmp_path_factory.mktemp("distributed")
    (p/"seen.py").write_text(SEEN); (p/"shard.py").write_text(SHARD)
    return p

@pytest.fixture(scope="module")
def train(place): return ["train", "region-expert", *SIZES, f"data.pool={place/'pool'}", "--cpu"]

@pytest.fixture(scope="module")
def two(place, train):
    said, = finish(launch("-m", "iad_nb.cli", *train, "--out", place/"two", "--snapshot", place/"snapshot"))
    return place/"two", said

@pytest.fixture(scope="module")
def one(place, train, two):
    alone(train, place/"one")
    return place/"one"

def test_two_processes_equal_one(one, two, place):
    run, said = two
    assert len(losses(run)) == len(losses(one)) == 12 and max(abs(a - b) for a, b in zip(losses(run), losses(one))) < 1e-5
    a, b = state(run), state(one)
    assert all(a[p].keys() == b[p].keys() for p in a) and gap(a, b) < 1e-4
    m, n = Run(run).metrics, Run(one).metrics
    assert m["processes"] == 2 and n["processes"] == 1 and abs(m["validation"]["image_auroc"] - n["validation"]["image_auroc"]) < 1e-6

def test_only_the_main_process_writes(two, place):
    run, said = two
    assert [r["step"] for r in Run(run).rows()] == list(range(1, 13)) and {p.name for p in run.iterdir()} == {"config.json", "env.json", "log.jsonl", "metrics.json", "checkpoint", "model"}
    assert said.count("another process makes this pool") == 1, "the pool is made once"
    assert said.count("model: ") == said.count("snapshot: ") == 1 and (place/"snapshot"/"config.json").exists(), said

def test_stopped_and_resumed(two, one, place, train):
    "Ctrl-C at one launcher, then two launchers as on two machines: the same weights to the last bit, every image once in each epoch; and one process goes on from there as well."
    run = place/"stopped"
    said, = finish(launch(place/"seen.py", *train, "--out", run, SEEN=str(place/"a"), STOP="4"), code=1)
    at = int(latest_checkpoint(run/"checkpoint").name[5:])
    assert 5 <= at < 12 and len(losses(run)) == at and f"stopped at step {at}" in said, said
    shutil.copytree(run, place/"alone")
    with socket.socket() as s: s.bind(("", 0)); port = s.getsockname()[1]
    both = [launch("--machine_rank", k, "--num_processes", 2, "--main_process_ip", "127.0.0.1", "--main_process_port", port, place/"seen.py", *train, "--out", run, config="ddp_nodes", SEEN=str(place/"b")) for k in range(2)]
    finish(*both)
    assert losses(run) == losses(two[0]) and gap(state(run), state(two[0])) == 0
    ids = [[(place/f"{part}{rank}").read_text().split() for part in "ab"] for rank in range(2)]
    ids = [a + b for a, b in ids]
    assert [len(i) for i in ids] == [48, 48]
    for epoch in range(2): assert len({*ids[0][epoch*24:epoch*24+24], *ids[1][epoch*24:epoch*24+24]}) == 48, "every image once"
    alone(train, place/"alone")
    assert max(abs(a - b) for a, b in zip(losses(place/"alone"), losses(one), strict=True)) < 1e-5 and gap(state(place/"alone"), state(one)) < 1e-4

def test_batches_that_cannot_be_shared(place, train):
    said, = finish(launch("-m", "iad_nb.cli", *train, "train.batch_size=6", "--out", place/"odd"), code=2)
    assert "a batch of 6 cannot be shared by 2 processes, 2 samples together" in said and "use a multiple of 4" in said and not (place/"odd"/"log.jsonl").exists()

def test_fsdp(place, monkeypatch):
    "One process, then two that share the weights, then one again: as one all the way. Blocks are gathered one at a time, gradients accumulated."
    monkeypatch.syspath_prepend(str(place))
    import shard
    shard.train(place/"f1", 9).fit()
    shard.train(place/"f2", 3).fit()
    finish(launch("--num_processes", 2, place/"shard.py", place/"f2", 6, config="fsdp"))
    six = RegionExpert.from_pretrained(place/"f2"/"model").state_dict()
    assert all(torch.equal(t, six[k]) for k, t in load_file(latest_checkpoint(place/"f2"/"checkpoint")/"ema.safetensors").items()), "the whole model, with averaged weights"
    shard.train(place/"f2", 9).fit()
    assert max(abs(a - b) for a, b in zip(losses(place/"f1"), losses(place/"f2"), strict=True)) < 1e-5 and gap(state(place/"f1"), state(place/"f2")) < 1e-4

def launched(config, *more):
    "What accelerate makes of a file of ours, and the environment its processes get."
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(CONFIGS/f"{config}.yaml"), *more, "train.py"]))
    return args, prepare_multi_gpu_env(args)

@pytest.mark.parametrize("config, processes, machines", [("cpu2", 2, 1), ("ddp", 8, 1), ("ddp_nodes", 16, 2), ("fsdp", 8, 1)])
def test_configs(config, processes, machines):
    args, env = launched(config)
    assert (args.num_processes, args.num_machines) == (processes, machines) and args.nproc_per_node == str(processes//machines) and env["ACCELERATE_MIXED_PRECISION"] == "no"
    assert args.use_fsdp == (config == "fsdp") == (env.get("ACCELERATE_USE_FSDP") == "true") and args.multi_gpu == (config != "fsdp")

@pytest.mark.parametrize("name", ["region-expert", "iad-unify", "industrial-diffusion", "diffuse-defect", "vmad"])
def test_fsdp_blocks_of_the_published_sizes(name, monkeypatch):
    "The blocks that fsdp.yaml gathers one at a time, in the models of published size: nearly all weights lie in them, and none is large."
    for k, v in launched("fsdp")[1].items():
        if "FSDP" in k: monkeypatch.setenv(k, v)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward
    cls, config = recipes.SYSTEMS[name]
    with torch.device("meta"): whole = _Loss(cls(config.paper()))
    plugin.set_auto_wrap_policy(whole)
    kinds = tuple(plugin.auto_wrap_policy.keywords["transformer_layer_cls"])
    owner = {}
    for n, m in whole.named_modules():
        if isinstance(m, kinds): owner.update({p: n for p in m.parameters()})          # the innermost block
    sizes = {}
    for p in whole.parameters(): sizes[owner.get(p, "")] = sizes.get(owner.get(p, ""), 0) + p.numel()
    total, rest = sum(sizes.values()), sizes.pop("", 0)
    print(name, f"{total:,}", sorted(k.__name__ for k in kinds), f"left {rest/total:.3f}", f"largest {max(sizes.values()):,}")
    assert rest/total < .2 and max(sizes.values()) < .1*total

def test_slurm(tmp_path):
    "The script starts one launcher a node, with the addresses and counts of the job."
    for name, text in dict(srun='exec "$@"', scontrol="printf 'node7\\nnode8\\n'", accelerate='printf "%s\\n" "$@"').items():
        (tmp_path/name).write_text(f"#!/bin/bash\n{text}\n"); (tmp_path/name).chmod(0o755)
    env = dict(os.environ, PATH=f"{tmp_path}:{os.environ['PATH']}", SLURM_JOB_NODELIST="node[7-8]", SLURM_NNODES="2", SLURM_NODEID="1", SLURM_JOB_ID="31", GPUS="4")
    r = subprocess.run(["bash", CONFIGS/"slurm.sh", "diffuse-defect", "train.steps=5"], env=env, capture_output=True, text=True)
    said = r.stdout.split()
    assert r.returncode == 0 and said[0] == "launch" and said[-5:] == ["-m", "iad_nb.cli", "train", "diffuse-defect", "train.steps=5"], r.stderr
    assert {a: said[said.index(a) + 1] for a in ("--num_machines", "--num_processes", "--machine_rank", "--main_process_ip", "--main_process_port")} == {"--num_machines": "2", "--num_processes": "8", "--machine_rank": "1", "--main_process_ip": "node7", "--main_process_port": "20031"}
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args([a for a in said[1:] if a != "configs/accelerate/ddp_nodes.yaml" and a != "--config_file"][:-5] + ["--config_file", str(CONFIGS/"ddp_nodes.yaml"), "x.py"]))
    assert args.num_processes == 8 and args.main_process_ip == "node7"
