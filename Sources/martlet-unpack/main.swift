import Archive
import LinuxSystem
import NFVImages
import SystemPackage

// Fills a folder with an image's layers, as root's child that can do little: the parsers of what
// strangers made run here, with a user id that owns nothing on the host, no network, and no file to
// be seen but the folder and the open layers.

/// The uids of the host behind this process's own 0 to 65535. Nothing else has them: workloads get
/// theirs from 0x100000 on, and useradd(8) gives out 65536 at a time from 100000 on, so that these
/// would be the fourteenth user's.
let hostUsers: UInt32 = 0xF0000

/// A user namespace of `hostUsers` (user_namespaces(7)).
func makeUserNamespace() throws(SystemError) -> FileDescriptor {
  let parent = currentProcessID()
  switch try cloneProcess(.newUser) {
  case .child:
    try? ProcessAttributes.dieWithParent(parent)
    ProcessAttributes.sleepForever()
  case .parent(let pid, let pidfd):
    defer {
      try? sendSignal(9, to: pidfd)
      _ = try? waitForChild(pid)
      try? pidfd.close()
    }
    for map in ["uid_map", "gid_map"] {
      try writeFile("/proc/\(pid)/\(map)", "0 \(hostUsers) 65536\n")
    }
    return try openFile("/proc/\(pid)/ns/user", .read)
  }
}

/// Leaves this process with `root` as its whole world. Files there keep the owners 0 to 65535 on
/// disk, since they are seen through the namespace's map as this process is.
func confine(to root: String) throws(SystemError) {
  let parent = ProcessAttributes.parentProcess
  let users = try makeUserNamespace()
  try unshareNamespaces([.newMount, .newNetwork, .newIPC, .newUTS])
  try Mount.makePrivate("/")
  try Mount.idMappedBind(
    root, at: root, userNamespace: users,
    attributes: [.noSetUserID, .noDevices, .noExecution])
  try Mount.pivot(to: root)
  try joinNamespace(users)
  try? users.close()
  try ProcessAttributes.setUser(uid: 0, gid: 0, groups: [])
  // CHOWN, DAC_OVERRIDE and FOWNER, within the namespace: what owners and modes need.
  try ProcessAttributes.keepCapabilities([0, 1, 3])
  try ProcessAttributes.setNoNewPrivileges()
  try ProcessAttributes.dieWithParent(parent)
}

/// Bounds what a decompressor can be made to take: seconds of CPU time, and memory.
func limit() throws(SystemError) {
  // RLIMIT_CPU, RLIMIT_CORE and RLIMIT_AS (getrlimit(2)).
  for (resource, most): (Int32, UInt64) in [(0, 600), (4, 0), (9, 2 << 30)] {
    try ProcessAttributes.setLimit(resource, soft: most, hard: most)
  }
}

func fail(_ failure: UnpackRequest.Failure, _ text: String) -> Never {
  try? writeAll(Array("\(text)\n".utf8), to: .standardError)
  exitNow(failure.rawValue)
}

guard let request = UnpackRequest(arguments: Array(CommandLine.arguments.dropFirst())) else {
  fail(.other, "usage: martlet-unpack ENTRIES OCTETS FOLDER LAYER...")
}
do {
  ProcessAttributes.resetSignals()
  ProcessAttributes.setFileModeMask(0)
  try closeDescriptors(from: 3)
  var layers: [FileDescriptor] = []
  for layer in request.layers { layers.append(try openFile(layer, .read)) }
  try limit()
  try confine(to: request.root)
  try RootUnpacker.unpack(layers, into: "/", limits: request.limits, keepsOwners: true)
} catch let error as ArchiveError {
  fail(.badLayer, "\(error)")
} catch {
  fail(isDiskFull(error) ? .diskFull : .other, "\(error)")
}
