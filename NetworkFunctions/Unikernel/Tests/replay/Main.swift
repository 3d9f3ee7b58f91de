import Functions
import Machine
import Replaying

// Takes a capture over the console, and gives back what a pipeline makes of it.
@c(machine_main)
public func main(_ start: UInt64) {
  Machine.prepare(start: start)
  Machine.answer(start: start) { capture in
    var function = Pipeline()
    var replay = Replay()
    replay.run(&function, over: capture)
    return replay.output
  }
}
