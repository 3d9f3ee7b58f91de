"""A function between two network namespaces, in one of its forms: what `check`, `bench` and `fuzz`
share. Needs root; leaves nothing behind.

The client has 10.9.1.2 and fd09:1::2, the server 10.9.2.2 and fd09:2::2; the function has the first
address of both networks, and each host's default route leads to it. A function with one port stands
in the client's network alone."""
import ctypes, fcntl, json, os, signal, socket, struct, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ["responder", "firewall", "nat44", "loadbalancer", "router", "pipeline"]
MACS = ["02:00:00:00:01:01", "02:00:00:00:02:01"]
HOST_MACS = ["02:00:00:00:01:02", "02:00:00:00:02:02"]
PORTS = ["inside", "outside"]
GREETING = bytes.fromhex("4d6172746c6574f51b8ed0ff93a6c1fe")
LIBC = ctypes.CDLL(None, use_errno=True)
RULES = [{"protocol": "icmp", "action": "accept"},
         {"from": "inside", "protocol": "tcp", "ports": "7", "action": "accept"},
         {"from": "inside", "protocol": "tcp", "ports": "5001", "action": "accept"},
         {"from": "inside", "protocol": "udp", "source": "10.9.1.0/24", "ports": "7-9",
          "action": "accept"},
         {"action": "drop"}]
TRANSLATION = {"inside": "inside", "outside": "outside"}
# What each needs to let a client reach the server, and what then shows that it does its work.
PARAMETERS = {
    "router": {"parameters": {}},
    "firewall": {"parameters": {"rules": RULES}, "refused": 77},
    "nat44": {"parameters": TRANSLATION, "ipv6": False, "source": "10.9.2.1"},
    "loadbalancer": {
        "parameters": {
            "services": [{"address": "10.9.1.1", "port": port, "protocol": protocol}
                         for port, protocol in (("7", "tcp"), ("5001", "tcp"), ("7", "udp"))],
            "backends": [{"address": "10.9.2.2", "state": "active"}]},
        "target": "10.9.1.1", "ipv6": False, "expires": False, "refused": 77},
    "pipeline": {"parameters": {"pipeline": "firewall | nat44", "rules": RULES, **TRANSLATION},
                 "source": "10.9.2.1", "ipv6": False, "refused": 77},
}


# Who is ended cleans up as well.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def image(name, form):
    path = f"{HERE}/.build/{name}" if form == "hosted" else f"{HERE}/Unikernel/.build/{name}.elf"
    return path if os.path.exists(path) else None


def document(ports, parameters=None, generation=1, macs=MACS):
    """The document of a function with so many ports (see FunctionDocument)."""
    return {"generation": generation, "parameters": parameters or {}, "ports": [
        {"name": PORTS[index], "interface": f"eth{index}", "mac": macs[index], "mtu": 1500,
         "routes": [], "owner": "function",
         "addresses": [f"10.9.{index + 1}.1/24", f"fd09:{index + 1}::1/64"]}
        for index in range(ports)]}


class Control:
    """The platform's end of a control channel (ControlProtocol)."""

    def __init__(self, connection):
        self.connection = connection
        self.id = 0
        connection.settimeout(30)

    def request(self, kind, values=b""):
        self.id += 1
        body = struct.pack("<QH", self.id, kind) + values
        self.connection.sendall(struct.pack("<I", len(body)) + body)
        return self.id

    def reply(self):
        body = self._exactly(struct.unpack("<I", self._exactly(4))[0])
        return struct.unpack("<QH", body[:10]), body[10:]

    def _exactly(self, count):
        octets = b""
        while len(octets) < count:
            part = self.connection.recv(count - len(octets))
            if not part:
                raise EOFError("the control channel has ended")
            octets += part
        return octets

    def hello(self):
        """Begins; gives what the function says of itself."""
        kind, body = self.ask(1, GREETING + struct.pack("<H", 1))
        assert kind == 102
        return body

    def configure(self, document):
        octets = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.request(3, struct.pack("<I", len(octets)) + octets)

    def ask(self, kind, values=b""):
        id = self.request(kind, values)
        (replied, kind), body = self.reply()
        assert replied == id, "a reply to something else"
        return kind, body

    def take(self, document):
        """None where the function takes a document over, else what it says."""
        self.configure(document)
        (_, kind), body = self.reply()
        return None if kind == 101 else body[2:].decode()

    def counters(self):
        kind, body = self.ask(10)
        assert kind == 105
        counters, place = {}, 2
        for _ in range(struct.unpack("<H", body[:2])[0]):
            length = struct.unpack("<H", body[place:place + 2])[0]
            name = body[place + 2:place + 2 + length].decode()
            counters[name] = struct.unpack("<Q", body[place + 2 + length:place + 10 + length])[0]
            place += 10 + length
        return counters


class Lab:
    """Namespaces with a function between them."""

    def __init__(self, form, ports, tag=""):
        self.form, self.ports = form, ports
        self.folder = tempfile.TemporaryDirectory(prefix="nf")
        os.chmod(self.folder.name, 0o777)
        self.base = f"nf{os.getpid()}{tag}"
        self.hosts = [f"{self.base}{place}" for place in "cs"[:ports]]
        self.inner = f"{self.base}f"
        self.process = self.control = None
        self.log = f"{self.folder.name}/log"
        self.number = 0

    def __enter__(self):
        try:
            ip("netns", "add", self.inner)
            for setting in ("ipv4/ip_forward=0", "ipv6/conf/default/addr_gen_mode=1"):
                name, value = setting.split("=")
                self.inside(self.inner, "sh", "-c", f"echo {value} > /proc/sys/net/{name}")
            for index, space in enumerate(self.hosts):
                ip("netns", "add", space)
                self._plumb(index, space)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _plumb(self, index, space):
        if self.form == "unikernel":
            ip("-n", space, "tuntap", "add", "eth0", "mode", "tap", "vnet_hdr")
            ip("-n", space, "link", "set", "eth0", "address", HOST_MACS[index])
        else:
            ip("-n", space, "link", "add", "eth0", "address", HOST_MACS[index], "type", "veth",
               "peer", "name", f"eth{index}", "netns", self.inner, "address", MACS[index])
            ip("-n", self.inner, "link", "set", f"eth{index}", "up")
        net = index + 1
        for arguments in (["link", "set", "lo", "up"], ["link", "set", "eth0", "up"],
                          ["addr", "add", f"10.9.{net}.2/24", "dev", "eth0"],
                          ["addr", "add", f"fd09:{net}::2/64", "dev", "eth0", "nodad"],
                          ["route", "add", "default", "via", f"10.9.{net}.1"],
                          ["route", "add", "default", "via", f"fd09:{net}::1"]):
            ip("-n", space, *arguments)

    def __exit__(self, *_):
        self.stop()
        for space in [*self.hosts, self.inner]:
            subprocess.run(["ip", "netns", "del", space], stderr=subprocess.DEVNULL)
        self.folder.cleanup()

    def inside(self, space, *arguments, timeout=60, **options):
        return subprocess.run(["ip", "netns", "exec", space, *arguments], capture_output=True,
                              text=True, timeout=timeout, **options)

    def client(self, *arguments, **options):
        return self.inside(self.hosts[0], *arguments, **options)

    def server(self, *arguments):
        """A process in the server's namespace; the caller ends it."""
        return subprocess.Popen(["ip", "netns", "exec", self.hosts[-1], *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def enter(self, space, body):
        """Calls `body` with this thread in another namespace."""
        with open("/proc/self/ns/net") as own, open(f"/run/netns/{space}") as other:
            assert LIBC.setns(other.fileno(), 0x40000000) == 0, os.strerror(ctypes.get_errno())
            try:
                return body()
            finally:
                assert LIBC.setns(own.fileno(), 0x40000000) == 0

    def raw(self, space):
        """A packet socket on a host's interface."""
        def make():
            packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            packets.bind(("eth0", 0))
            return packets
        return self.enter(space, make)

    # MARK: The function

    def start(self, path, document=None, macs=MACS, prefix=(), suffix=(), isAwaited=True):
        """Starts a function and gives it its document; waits until it takes calls, where `isAwaited`."""
        self.number += 1
        if self.form == "unikernel":
            self._boot(path, macs, prefix, suffix)
            if document is not None:
                self.control.hello()
                refusal = self.control.take(document)
                assert refusal is None, refusal
        else:
            place = f"{self.folder.name}/document.json"
            with open(place, "w") as file:
                json.dump(document, file)
            path_of_control = f"{self.folder.name}/control"
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.inner, "setpriv", "--reuid=65534", "--regid=65534",
                 "--clear-groups", "--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw",
                 "--bounding-set=-all,+net_raw", "--no-new-privs", *prefix, path, place,
                 path_of_control], stderr=open(self.log, "wb"))
            if isAwaited:
                self.control = Control(self._connect(path_of_control))
                self.control.hello()

    def _connect(self, path):
        connection = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 5
        while True:
            try:
                connection.connect(path)
                return connection
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.002)

    def taps(self):
        def open_tap():
            tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            # TUNSETIFF: IFF_TAP, IFF_NO_PI, IFF_VNET_HDR.
            fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"eth0", 0x5002))
            return tap
        return [self.enter(space, open_tap) for space in self.hosts]

    def _boot(self, path, macs, prefix, suffix):
        place = f"{self.folder.name}/control{self.number}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(place)
        listener.listen()
        taps = self.taps()
        self.log = f"{self.folder.name}/log{self.number}"
        self.process = subprocess.Popen(
            [*prefix, *qemu(path, taps, macs, place, self.log), *suffix], pass_fds=taps)
        for tap in taps:
            os.close(tap)
        listener.settimeout(10)
        self.control = Control(listener.accept()[0])

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def worker(self):
        """The function's process, below what put it into its namespace."""
        return self.process.pid

    def private(self):
        """Private memory of the process, in octets."""
        with open(f"/proc/{self.worker()}/smaps_rollup") as rollup:
            return 1024 * sum(int(line.split()[1]) for line in rollup if line.startswith("Private"))


def qemu(path, taps, macs, control, log):
    """QEMU's command line for a unikernel, as the platform's driver has it."""
    accelerator = os.environ.get("NF_ACCEL", "tcg")
    memory = os.environ.get("NF_MEMORY", "8")
    arguments = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=off,x-option-roms=off,"
        "memory-backend=memory", "-object", f"memory-backend-memfd,id=memory,size={memory}M",
        "-accel", "tcg,thread=multi,tb-size=4" if accelerator == "tcg" else accelerator,
        "-cpu", "max,erms=off,smap=off,la57=off" if accelerator == "tcg" else "host", "-m", memory,
        "-global", "virtio-mmio.force-legacy=off", "-kernel", path,
        "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-chardev", f"file,id=log,path={log}", "-device", "isa-debugcon,iobase=0xe9,chardev=log"]
    for index, tap in enumerate(taps):
        arguments += ["-netdev", f"tap,id=n{index},fd={tap}",
                      "-device", f"virtio-net-device,netdev=n{index},mac={macs[index]}"
                      + (",tx=timer,x-txtimer=1" if accelerator == "tcg" else "")]
    return arguments + [
        "-chardev", f"socket,id=control,path={control}",
        "-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=control"]


# MARK: Frames

def checksum(octets):
    octets += b"\0" * (len(octets) % 2)
    value = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while value >> 16:
        value = (value & 0xffff) + (value >> 16)
    return ~value & 0xffff


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def ipv4(protocol, payload, source, target, ttl=64):
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, ttl, protocol, 0,
                         socket.inet_aton(source), socket.inet_aton(target))
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload


def pseudo(protocol, count, source, target):
    return (socket.inet_aton(source) + socket.inet_aton(target)
            + struct.pack(">BBH", 0, protocol, count))


def tcp(source, target, flags, ports=(40000, 81), sequence=1, acknowledgement=0, payload=b""):
    header = struct.pack(">HHIIBBHHH", *ports, sequence & 0xffffffff, acknowledgement & 0xffffffff,
                         0x50, flags, 1000, 0, 0) + payload
    sum = checksum(pseudo(6, len(header), source, target) + header)
    return ipv4(6, header[:16] + struct.pack(">H", sum) + header[18:], source, target)


def udp(source, target, ports, payload):
    header = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
    sum = checksum(pseudo(17, len(header), source, target) + header) or 0xffff
    return ipv4(17, header[:6] + struct.pack(">H", sum) + header[8:], source, target)


def ethernet(target, source, payload, type=0x0800):
    return mac(target) + mac(source) + struct.pack(">H", type) + payload
