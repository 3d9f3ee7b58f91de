print("martletd")
