import HoldProtocol
import LinuxSystem
import SystemPackage

/// What this process leaves to the program that replaces it.
struct KeptState {
  /// Raised with every change of the form below.
  static let version: UInt16 = 1
}
