internal import CLinux
internal import Glibc
internal import SystemPackage

/// What the first process of a machine does to it.
public enum Machine {
  /// Loads a kernel module (finit_module(2)); one that is there already is no error.
  ///
  /// - Parameter parameters: `NAME=VALUE` each, with spaces between.
  public static func loadModule(_ path: String, parameters: String) throws(SystemError) {
    let file = try openFile(path, .read)
    defer { try? file.close() }
    do throws(SystemError) {
      try systemCall("finit_module", path) { CLinux_load_module(file.rawValue, parameters) }
    } catch  where error.errno == .fileExists {}
  }

  public static func setHostName(_ name: String) throws(SystemError) {
    try systemCall("sethostname", name) { CLinux_set_host_name(name, name.utf8.count) }
  }

  /// Ends the machine by an octet to a port, where a device of its monitor takes it as the end;
  /// returns where there is none. Not before what was written has gone out.
  public static func end(by octet: UInt8, to port: UInt16) {
    settle()
    _ = CLinux_write_port(port, octet)
  }

  private static func settle() {
    sync()
    tcdrain(1)
  }

  /// Switches the machine off (reboot(2)). Not before what was written has gone out.
  public static func powerOff() -> Never {
    settle()
    _ = CLinux_power_off()
    // Where the machine cannot do it, nothing is left to run for.
    while true { pause() }
  }
}
