print("martlet-hold")
