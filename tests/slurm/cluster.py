"""A Slurm cluster of two nodes on this machine: munge, slurmctld and two slurmd, all in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

NEEDED = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "sinfo", "scontrol")
NODES = ("n1", "n2")
CONFIGURATION = """
ClusterName=tgmm
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmctldPort={ports[0]}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=20
MinJobAge=300
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=8000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=1-0 State=UP
"""


def missing() -> list[str]:
    """What a cluster needs and this machine lacks."""
    lacking = [name for name in NEEDED if find(name) is None]
    return lacking if os.geteuid() == 0 else [*lacking, "root, as whom slurmd runs"]


def find(name: str) -> str | None:
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """Starts the daemons; `stop` ends them and what their jobs left behind."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        self.daemons: dict[str, subprocess.Popen] = {}
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self._add_srun()
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(host=host, user="root", ports=free_ports(3), folder=folder)
        (folder / "slurm.conf").write_text(text)
        (folder / "state").mkdir()
        self._start_munge()
        self.start("slurmctld", "slurmctld", "-D")
        for node in NODES:
            (folder / f"spool-{node}").mkdir()
            self.start_node(node)
        self.wait(lambda: self.states() == dict.fromkeys(NODES, "idle"), "both nodes are idle")

    def _add_srun(self) -> None:
        """Jobs lose SLURM_CONF, which only a cluster beside the machine's own configuration needs."""
        (self.folder / "bin").mkdir()
        command = self.folder / "bin" / "srun"
        command.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {find("srun")} "$@"\n')
        command.chmod(0o755)
        self.environment["PATH"] = f"{self.folder}/bin:{self.environment['PATH']}"

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        subprocess.run([find("mungekey"), "--create", f"--keyfile={key}"], check=True)
        options = [f"--key-file={key}", f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munge.pid",
                   f"--log-file={self.folder}/munge.log", f"--seed-file={self.folder}/munge.seed"]  # fmt: skip
        self.start("munged", "munged", "--foreground", "--force", *options)
        self.wait((self.folder / "munge.socket").exists, "munge answers")

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                [find(command[0]), *command[1:]], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def start_node(self, node: str) -> None:
        self.start(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """As if its power went: the daemon and all processes of its jobs end at once."""
        pids = self.processes_of(node)
        for pid in [self.daemons[node].pid, *pids]:
            subprocess.run(["kill", "-KILL", str(pid)], check=False)
        self.daemons.pop(node).wait()

    def processes_of(self, node: str) -> list[int]:
        """Processes of the jobs on a node: what the node's daemon started, and what that started."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment, command = (path / "environ").read_bytes(), (path / "cmdline").read_bytes()
                files = " ".join(os.readlink(link) for link in (path / "fd").iterdir())
            except OSError:
                continue
            ours = str(self.folder).encode() in environment
            step = b"slurmstepd" in command and f"-{node}" in files
            if ours and (step or f"SLURMD_NODENAME={node}".encode() in environment):
                found.append(int(path.name))
        return found

    def ask(self, *command: str) -> str:
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True, timeout=60)
        return result.stdout

    def states(self) -> dict[str, str]:
        """State of every node."""
        lines = self.ask("sinfo", "--noheader", "--Node", "--format=%N %t").splitlines() if self.answers() else []
        return dict(line.split() for line in lines)

    def answers(self) -> bool:
        command = ["scontrol", "ping"]
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return "UP" in result.stdout

    def running(self) -> dict[str, tuple[str, str]]:
        """Job -> its node and its rule, of the jobs that run."""
        lines = self.ask("squeue", "--noheader", "--states=R", "--format=%i %N %k").splitlines()
        return {job: (node, rule) for job, node, rule in (line.split(maxsplit=2) for line in lines)}

    def wait(self, holds, what: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))
                raise AssertionError(f"after {seconds:.0f} s it is not so that {what}\n{logs}")
            time.sleep(0.5)

    def stop(self) -> None:
        if self.answers():
            subprocess.run(["scancel", "--user=root"], env=self.environment, check=False)
        for node in NODES:
            for pid in self.processes_of(node):
                subprocess.run(["kill", "-KILL", str(pid)], check=False)
        for name in ("n1", "n2", "slurmctld", "munged"):
            if name in self.daemons:
                self.daemons[name].terminate()
                self.daemons[name].wait(timeout=30)


if __name__ == "__main__":
    lacking = missing()
    print(f"no Slurm can be started here: {', '.join(lacking)} missing" if lacking else "Slurm can be started here")
    raise SystemExit(bool(lacking))
